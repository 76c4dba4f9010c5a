r"""DisARM: a Bernoulli site's gradient from two draws, made by opposite uniforms, and the difference of their costs.

Convention of this module: all elements of a draw get their opposite together, so that the program is evaluated twice
more, in one vectorised run, whatever the number of elements.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as torch_dist
from torch import Tensor

from ppl_genmodels.handlers.estimator import Estimator, Site, base_of
from ppl_genmodels.handlers.later import REDRAWN
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["DisARM", "disarm", "opposite"]


class DisARM(Estimator):
    r"""DisARM, also called U2G: antithetic draws of bits, the noise that made them integrated out.

    .. math:: \tfrac12 \, (f(b) - f(\tilde b)) \, (-1)^{\tilde b_i} \, 1[b_i \ne \tilde b_i] \, \sigma(|\alpha_i|)

    is the gradient in the logit :math:`\alpha_i`, where :math:`b_i = 1[u_i < \sigma(\alpha_i)]` is the draw and
    :math:`\tilde b_i = 1[1 - u_i < \sigma(\alpha_i)]` its opposite. Draws after the site follow both by the same noise.
    Unbiased.

    Args:
        sites: Which sites; by default all Bernoulli sites.

    References:
        Dong, Mnih and Tucker (2020), DisARM: An Antithetic Gradient Estimator for Binary Latent Variables, section 3;
        Yin, Ho, Yan, Qian and Zhou (2020), Probabilistic Best Subset Selection via Gradient-Based Optimization.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with DisARM("b"), pyro.poutine.trace() as traced:
        ...     _ = pyro.sample("b", dist.Bernoulli(0.3))
        >>> type(traced.trace.nodes["b"]["infer"]["gradient"]).__name__
        'DisARM'
    """

    serves_what = "Bernoulli sites"

    def serves(self, fn: Any) -> bool:
        """Bernoulli, given without ``Independent`` around it."""
        return isinstance(fn, torch_dist.Bernoulli)

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient in the logits is the estimate."""
        inner = len(site.fn.event_shape)
        logits, value = (site.in_layout(each, inner) for each in (base_of(site.fn).logits, site.value))
        other = opposite(value, logits.detach())
        cost, _ = site.alternatives(torch.stack([value, other]), REDRAWN)
        difference = (cost[0] - cost[1]).reshape(*cost.shape[1:], *(1,) * inner)
        estimate = 0.5 * difference * (value - other) * logits.detach().abs().sigmoid()
        total = (estimate * logits).sum() / len(site.log_prob)
        return total - total.detach()


def disarm(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`DisARM` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(disarm(sites="b")).__name__
        'DisARM'
    """
    return applied(DisARM(sites), target)


def opposite(value: Tensor, logits: Tensor) -> Tensor:
    r"""The bits that the opposite of a draw's uniform noise makes.

    Given the bit, the noise is uniform on the interval that gives it; of that interval the part whose opposite gives
    the other bit is :math:`\min(1, e^{-\alpha})` for a one and :math:`\min(1, e^{\alpha})` for a zero.

    Args:
        value: Bits, any shape.
        logits: Of the distribution that they were drawn from; broadcast with the bits.

    Example:
        >>> opposite(torch.tensor([0.0, 1.0]), torch.zeros(2))
        tensor([1., 0.])
    """
    differs = torch.rand_like(value) < (logits * (1 - 2 * value)).clamp(max=0.0).exp()
    return torch.where(differs, 1 - value, value)
