r"""Evolution strategies: the gradient of a continuous site from what mirrored draws cost, for costs without a gradient.

Convention of this module: the two draws of a pair lie opposite each other about the location; all elements of a draw
are mirrored together.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers.drawn_only import drawn_only
from ppl_genmodels.handlers.estimator import Site, base_of
from ppl_genmodels.handlers.flipout import SYMMETRIC
from ppl_genmodels.handlers.later import REDRAWN
from ppl_genmodels.handlers.of_guide import OfGuide
from ppl_genmodels.handlers.score_function import leave_one_out
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["Evolution", "evolution"]


class Evolution(OfGuide):
    r"""Evolution strategies, or search gradients: mirrored draws, and none of the cost's derivative.

    .. math:: \frac1K \sum_{k=1}^K \tfrac12 \sum_\pm (f(z_k^\pm) - b_k) \, \nabla \log q(z_k^\pm), \quad
        z^\pm = \mu \pm \sigma \epsilon

    In the gradient of the location the pair leaves the difference of the two costs, in that of the scale their mean
    less the baseline, which is the mean of the other pairs, or with one pair of the other particles, or else of the
    other data. Draws after the site follow both by the same noise. **Unbiased** for any cost, continuous or not, for
    which the bound is the cost smoothed by the guide; the pathwise gradient through the draw is cut, so that a model
    may call anything. The variance grows with the number of elements of a draw. Costs 2 K evaluations of the program
    for each site, in one vectorised run: a black box takes particles on the left.

    Args:
        sites: Which sites; by default all Normal, Laplace, StudentT and Cauchy ones.
        pairs: K, how many pairs; the first is the draw and its mirror.

    Raises:
        OptionError: When there is not at least one pair.
        ProgramError: When the guide's distribution of a named site is another.

    References:
        Wierstra, Schaul, Glasmachers, Sun, Peters and Schmidhuber (2014), Natural Evolution Strategies, equation 2;
        Salimans, Ho, Chen, Sidor and Sutskever (2017), Evolution Strategies as a Scalable Alternative to Reinforcement
        Learning, section 2; Nesterov and Spokoiny (2017), Random Gradient-Free Minimization of Convex Functions,
        equation 26.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from ppl_genmodels.objectives import log_lik
        >>> loc = torch.tensor(0.3, requires_grad=True)
        >>> def guide():
        ...     pyro.sample("z", dist.Normal(loc, 1.0))
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.factor("reward", -z.detach().floor() ** 2, has_rsample=False)
        >>> log_lik().loss(evolution((model, guide), pairs=8)).backward()
        >>> loc.grad.shape
        torch.Size([])
    """

    serves_what = "Normal, Laplace, StudentT and Cauchy sites"

    def __init__(self, sites: Sites = None, pairs: int = 1) -> None:
        super().__init__(sites)
        if not isinstance(pairs, int) or pairs < 1:
            raise OptionError(f"pairs must be a positive integer, got {pairs!r}.")
        self.pairs = pairs

    def serves(self, fn: Any) -> bool:
        """Symmetric about ``loc``, given without ``Independent`` around it."""
        return isinstance(fn, SYMMETRIC)

    def transform(self, msg: Message) -> None:
        """Draws without the pathwise gradient."""
        msg["fn"] = drawn_only(msg["fn"])

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient in the distribution's parameters is the estimate.

        Raises:
            ProgramError: When the guide's distribution cannot be served, or the objective mixes the particles.
        """
        super().surrogate(site)
        fn, location = site.fn, base_of(site.fn).loc.detach()
        with torch.no_grad():
            ones = torch.cat([site.value.unsqueeze(0), fn.sample(torch.Size([self.pairs - 1]))])
        draws = torch.stack([ones, 2 * location - ones], 1).flatten(0, 1)  # each before its mirror
        layout = torch.stack([site.in_layout(each, len(fn.event_shape)) for each in draws])
        log_prob = torch.stack([site.in_layout(fn.log_prob(each), 0) for each in draws])
        cost, _ = site.alternatives(layout, REDRAWN)
        centered = cost.unflatten(0, (self.pairs, 2)) - _baseline(cost.unflatten(0, (self.pairs, 2)), site.data_dim)
        weighted = log_prob.unflatten(0, (self.pairs, 2)) * centered
        total = weighted.sum() / (2 * self.pairs * cost.shape[1])
        return total - total.detach()


def evolution(target: Any = None, *, sites: Sites = None, pairs: int = 1) -> Any:
    """:class:`Evolution` applied to a callable or a program; the handler itself without one.

    Example:
        >>> evolution(sites="z", pairs=4).pairs
        4
    """
    return applied(Evolution(sites, pairs), target)


def _baseline(cost: Tensor, data_dim: int | None) -> Tensor:
    r"""What does not depend on a pair: the mean cost of the others, shape (pairs, 1, particles, \*plates).

    Args:
        cost: Shape (pairs, 2, particles, \*plates).
        data_dim: The dim of the data, or None when their costs depend on one another.
    """
    mean = cost.mean(1, keepdim=True)
    if len(cost) > 1:
        return (mean.sum(0, keepdim=True) - mean) / (len(cost) - 1)
    return leave_one_out(mean[0, 0], data_dim).expand_as(mean)
