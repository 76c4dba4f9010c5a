r"""The normalizer of a density that is known up to a factor, by annealed importance sampling.

Convention of this module: chains go from a normalised distribution :math:`p_0` to the density :math:`f` through
:math:`p_0^{1 - \beta} f^{\beta}`; what is estimated is :math:`\log Z = \log \int f(x) \, dx`, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ppl_genmodels.distributions import Energy
from ppl_genmodels.distributions.langevin import LogDensity, adjusted_step, chains_at
from ppl_genmodels.distributions.unvalidated import unvalidated
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["LogNormalizer", "annealed_importance"]

PILOTS = 200
"""Chains that the steps' sizes are found by, before those that count."""

ACCEPTED = 0.574
"""Share of the steps that are to be taken: the best one in many dims (Roberts and Rosenthal 1998)."""


@dataclass(frozen=True)
class LogNormalizer:
    """An estimate of the log of a normalizer.

    Attributes:
        value: In nats.
        standard_error: In nats; not to be trusted where few weights count.
        effective_sample_size: How many equal weights would be as good as those of the chains.
    """

    value: float
    standard_error: float
    effective_sample_size: float


def annealed_importance(
    density: Energy | Callable[[Tensor], Tensor],
    start: Any = None,
    *,
    chains: int = 1000,
    levels: int = 200,
    seed: int = 0,
) -> LogNormalizer:
    r"""The log-normalizer of a density, from weighted chains.

    .. math:: \log Z \approx \log \frac1n \sum_i \exp \sum_k (\beta_k - \beta_{k-1}) \bigl(\log f(x_{i,k-1})
        - \log p_0(x_{i,k-1})\bigr)

    Each chain takes one Metropolis-adjusted Langevin step at each level. The steps' sizes are found by some chains that
    go before and do not count, so that the estimate of :math:`Z` is unbiased; in the mean, that of its log is too low.

    Args:
        density: An energy, or a function from values, (\*batch, \*event), to log-densities up to a constant, (\*batch).
        start: :math:`p_0`, a distribution of one value, without batch dims, that covers the density; of an energy its
            own start by default.
        chains: How many.
        levels: Steps of :math:`\beta` from 0 to 1; more for what is far from the start or has more dims.
        seed: Of the chains.

    Returns:
        The estimate, with its standard error by the delta method.

    Raises:
        OptionError: When a number is no positive integer, or a function is given without a start.

    References:
        Neal (2001), Annealed Importance Sampling, section 2; the standard error from section 4.

    Example:
        >>> import pyro.distributions as dist
        >>> start = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        >>> found = annealed_importance(lambda x: -0.5 * x.square().sum(-1), start, levels=10)
        >>> round(found.value, 2), round(math.log(2 * math.pi), 2)
        (1.84, 1.84)
    """
    check_size("annealed_importance", "chains", chains)
    check_size("annealed_importance", "levels", levels)
    log_density = density.log_density if isinstance(density, Energy) else density
    start = density.start if start is None and isinstance(density, Energy) else start
    if start is None:
        raise OptionError(
            "annealed_importance: a function of values needs a start that can be drawn from. Remedy: "
            "start=dist.Normal(torch.zeros(d), 1.0).to_event(1), as broad as the density."
        )
    path = partial(_between, unvalidated(start), log_density)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = _found_sizes(path, start.sample((PILOTS,)), levels)
        log_weight = _log_weights(path, start.sample((chains,)), sizes)
    return _summed(log_weight)


def _between(start: Any, log_density: LogDensity, beta: float) -> LogDensity:
    return lambda value: (1 - beta) * start.log_prob(value) + beta * log_density(value)


def _found_sizes(path: Callable[[float], LogDensity], value: Tensor, levels: int) -> list[Tensor]:
    """The steps' sizes at each level, in proportion to the start's variances, as pilots find them."""
    log_size, variance = 0.0, value.var(0)
    sizes: list[Tensor] = []
    for level in range(1, levels + 1):
        sizes.append(math.exp(log_size) * variance)
        target = path(level / levels)
        moved, taken = adjusted_step(target, chains_at(target, value), sizes[-1])
        value, log_size = moved.value, log_size + _GAIN * (taken.to(value).mean().item() - ACCEPTED)
    return sizes


def _log_weights(path: Callable[[float], LogDensity], value: Tensor, sizes: list[Tensor]) -> Tensor:
    """Of each chain, shape (chains,)."""
    levels, log_weight = len(sizes), torch.zeros(len(value)).to(value)
    for level, size in enumerate(sizes, 1):
        target, before = path(level / levels), path((level - 1) / levels)
        chains = chains_at(target, value)
        log_weight += chains.log_density - before(value)
        value = adjusted_step(target, chains, size)[0].value
    return log_weight


def _summed(log_weight: Tensor) -> LogNormalizer:
    count = len(log_weight)
    shares = (log_weight - log_weight.logsumexp(0)).exp()
    error = ((shares * count).var(0) / count).sqrt() if count > 1 else torch.tensor(math.nan)
    value = log_weight.logsumexp(0).item() - math.log(count)
    return LogNormalizer(value, error.item(), (1 / shares.square().sum()).item())


_GAIN = 0.5
"""How much the log of the size changes when all steps are taken rather than none."""
