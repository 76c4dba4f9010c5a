r"""DisARM: a gradient from two draws, made by opposite uniforms, and the difference of their costs.

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
from ppl_genmodels.handlers.sticks import sticks_of

__all__ = ["DisARM", "disarm", "opposite"]


class DisARM(Estimator):
    r"""DisARM, also called U2G: antithetic draws of bits, the noise that made them integrated out.

    .. math:: \tfrac12 \, (f(b) - f(\tilde b)) \, (-1)^{\tilde b_i} \, 1[b_i \ne \tilde b_i] \, \sigma(|\alpha_i|)

    is the gradient in the logit :math:`\alpha_i`, where :math:`b_i = 1[u_i < \sigma(\alpha_i)]` is the draw and
    :math:`\tilde b_i = 1[1 - u_i < \sigma(\alpha_i)]` its opposite. A class is the first bit that is one among those
    that break a stick; bits after the classes of both draws have an estimate of zero. Draws after the site follow both
    by the same noise. Unbiased.

    Args:
        sites: Which sites; by default all Bernoulli, Categorical and OneHotCategorical ones.

    References:
        Dong, Mnih and Tucker (2020), DisARM: An Antithetic Gradient Estimator for Binary Latent Variables, section 3;
        Yin, Ho, Yan, Qian and Zhou (2020), Probabilistic Best Subset Selection via Gradient-Based Optimization; Dong,
        Mnih and Tucker (2021), Coupled Gradient Estimators for Discrete Latent Variables, for the stick.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with DisARM("b"), pyro.poutine.trace() as traced:
        ...     _ = pyro.sample("b", dist.Bernoulli(0.3))
        >>> type(traced.trace.nodes["b"]["infer"]["gradient"]).__name__
        'DisARM'
    """

    serves_what = "Bernoulli, Categorical and OneHotCategorical sites"

    def serves(self, fn: Any) -> bool:
        """Bits and classes, given without ``Independent`` around it."""
        return isinstance(fn, torch_dist.Bernoulli | torch_dist.Categorical | torch_dist.OneHotCategorical)

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient in the logits is the estimate."""
        fn, event = base_of(site.fn), len(site.fn.event_shape)
        classes = fn.logits.dim() - len(fn.batch_shape)
        value = site.in_layout(site.value, event)
        logits = site.in_layout(fn.logits, event - len(fn.event_shape) + classes)
        sticks = sticks_of(fn, logits, value)
        other = opposite(sticks.bits, sticks.logits.detach())
        cost, _ = site.alternatives(torch.stack([value, sticks.value(other)]), REDRAWN)
        difference = cost[0] - cost[1]
        difference = difference.reshape(*difference.shape, *(1,) * (sticks.bits.dim() - difference.dim()))
        estimate = 0.5 * difference * (sticks.bits - other) * sticks.logits.detach().abs().sigmoid()
        total = (estimate * sticks.used(other) * sticks.logits).sum() / len(site.log_prob)
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
