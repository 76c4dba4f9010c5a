r"""MuProp: the score function with the cost of the mean-field pass, and its slope, as the baseline.

Convention of this module: in the mean-field pass this site and all after it have their means in place of draws.
"""

from __future__ import annotations

from typing import Any

import torch.distributions as torch_dist
from torch import Tensor

from ppl_genmodels.handlers.estimator import Estimator, Site
from ppl_genmodels.handlers.later import MEAN
from ppl_genmodels.handlers.score_function import leave_one_out
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["MuProp", "muprop"]


class MuProp(Estimator):
    r"""MuProp: a first-order expansion of the cost around the mean is taken exactly, the score function has the rest.

    .. math:: \nabla \log q(z) \, \big(f(z) - f(\bar z) - f'(\bar z)^\top (z - \bar z)\big)
        + f'(\bar z)^\top \nabla \bar z, \quad \bar z = E_q[z]

    From the rest the mean of the others', along particles or data, is subtracted. Unbiased. Costs one evaluation of the
    program more, with its gradient in the site. The model sees means where it expects draws, and prices one-hot and
    binary sites linearly there.

    Args:
        sites: Which sites; by default all Bernoulli, OneHotCategorical and Binomial ones. Sites after them need a mean.

    Raises:
        ProgramError: When a named site has another distribution, or one after it has no mean.

    References:
        Gu, Levine, Sutskever and Mnih (2016), MuProp: Unbiased Backpropagation for Stochastic Neural Networks,
        section 3.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with MuProp("b"), pyro.poutine.trace() as traced:
        ...     _ = pyro.sample("b", dist.Bernoulli(0.3))
        >>> type(traced.trace.nodes["b"]["infer"]["gradient"]).__name__
        'MuProp'
    """

    serves_what = "Bernoulli, OneHotCategorical and Binomial sites"

    def serves(self, fn: Any) -> bool:
        """Whether the mean is a value that a program can go on with, given without ``Independent`` around it."""
        return isinstance(fn, torch_dist.Bernoulli | torch_dist.OneHotCategorical | torch_dist.Binomial)

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient is the score times the rest, and the slope times the mean's."""
        event = len(site.fn.event_shape)
        mean, value = site.in_layout(site.fn.mean, event), site.in_layout(site.value, event)
        there, slope = site.around(mean, MEAN)
        expansion = (slope * (value - mean).detach()).reshape(*slope.shape[: slope.dim() - event], -1).sum(-1)
        rest = site.cost - there - expansion
        rest = rest - leave_one_out(rest, site.data_dim)
        weighted = ((site.log_prob * rest).sum() + (slope * mean).sum()) / len(slope)
        return weighted - weighted.detach()


def muprop(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`MuProp` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(muprop(sites="b")).__name__
        'MuProp'
    """
    return applied(MuProp(sites), target)
