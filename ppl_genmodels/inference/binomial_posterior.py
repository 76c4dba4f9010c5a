r"""The posterior of bits whose prior is a diffusion, given a factor for each bit, by twisted particles.

Convention of this module: a factor is given by its log-odds, :math:`\log r_i(1) - \log r_i(0)`, infinite for a bit that
is known and 0 for one of which nothing is. Particles stand to the left of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ppl_genmodels.errors import DataError
from ppl_genmodels.inference.resampling import successors, taken
from ppl_genmodels.networks.sizes import check_size

__all__ = ["BinomialPosterior", "binomial_posterior"]


@dataclass(frozen=True)
class BinomialPosterior:
    r"""Draws of bits given a factor.

    Attributes:
        samples: Equally weighted, shape (particles, rows, \*event).
        log_evidence: The estimate of :math:`\log E_p[r(x)]` in nats, shape (rows,), where the larger of :math:`r_i(0)`
            and :math:`r_i(1)` is 1, so that it is the log-probability of bits that are known; its exponential is
            unbiased.
    """

    samples: Tensor
    log_evidence: Tensor


@torch.no_grad()
def binomial_posterior(chain: Any, log_odds: Tensor, particles: int = 256) -> BinomialPosterior:
    r"""Draws from :math:`p(x) \prod_i r_i(x_i)` up to its normalizer, where p is a diffusion of bits.

    Inpainting, where some bits are known; denoising, where each was seen through a noisy channel. A step of the chain
    asks the denoiser for the data's bits; here its answer is multiplied by the factor, so that known bits pull all
    others. Weights correct what that leaves out, and particles are resampled at every step.

    Args:
        chain: A :class:`~ppl_genmodels.models.BinomialDiffusion`, or a chain of it of so many steps.
        log_odds: The factor for each row, shape (rows, \*event).
        particles: How many draws for each row.

    Raises:
        OptionError: When ``particles`` is no positive integer.
        DataError: When the factor has no row of the chain's event shape.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics, section 2.5; Wu, Trippe, Naesseth, Blei and Cunningham (2023), Practical and Asymptotically
        Exact Conditional Sampling in Diffusion Models, algorithm 1, for the weights.

    Example:
        >>> from ppl_genmodels.models import BinomialDiffusion
        >>> known = torch.tensor([[torch.inf, -torch.inf, 0.0]])
        >>> found = binomial_posterior(BinomialDiffusion((3,), width=16), known, particles=10)
        >>> found.samples.mean(0)[0, :2], found.log_evidence.exp()
        (tensor([1., 0.]), tensor([0.2500]))
    """
    check_size("binomial_posterior", "particles", particles)
    if log_odds.shape[1:] != chain.event_shape:
        raise DataError(
            f"binomial_posterior: log_odds of shape {tuple(log_odds.shape)}, expected (rows, "
            f"{', '.join(map(str, chain.event_shape))}). Remedy: log_odds.unsqueeze(0) for one row."
        )
    denoiser, times = chain.denoiser, [log_odds.new_tensor(i / chain.steps) for i in range(chain.steps + 1)]
    value = denoiser.rate.expand(particles, *log_odds.shape).bernoulli()
    found = denoiser(value, times[-1])
    log_weight = _over_events(_log_value(found, log_odds))
    evidence = _log_mean(log_weight)
    for number in range(chain.steps, 1, -1):
        chosen = successors(log_weight)
        value, found = taken(value, chosen), taken(found, chosen)
        time, earlier = times[number], times[number - 1]
        plain, twisted = (denoiser.step(value, each, time, earlier) for each in (found, found + log_odds))
        before = _log_value(found, log_odds)
        value = twisted.sigmoid().bernoulli()
        way, found = 2 * value - 1, denoiser(value, earlier)
        ratio = logsigmoid(way * plain) - logsigmoid(way * twisted) + _log_value(found, log_odds) - before
        log_weight = _over_events(ratio)
        evidence = evidence + _log_mean(log_weight)
    found = taken(found, successors(log_weight))
    return BinomialPosterior((found + log_odds).sigmoid().bernoulli(), evidence)


def _log_value(found: Tensor, log_odds: Tensor) -> Tensor:
    """The log of the factor's mean under what the denoiser says of each bit."""
    return torch.logaddexp(logsigmoid(found) + log_odds.clamp(max=0), logsigmoid(-found) + (-log_odds).clamp(max=0))


def _over_events(value: Tensor) -> Tensor:
    """The sum, shape (particles, rows)."""
    return value.flatten(2).sum(-1)


def _log_mean(log_weight: Tensor) -> Tensor:
    """The log of the mean over particles, shape (rows,)."""
    return log_weight.logsumexp(0) - math.log(len(log_weight))
