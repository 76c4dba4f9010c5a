r"""Langevin chains: draws from a density that is known up to a factor, by its score.

Convention of this module: a step of size :math:`\eta` moves a value to
:math:`x + \eta \nabla \log p(x) + \sqrt{2 \eta} \, \epsilon`. All chains move together; values have the shape
(\*batch, \*event) and log-densities (\*batch), which tells how many dims an event has. No gradient passes a chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_genmodels.distributions.samplers import time_grid
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = [
    "Chains",
    "LogDensity",
    "adjusted_step",
    "annealed_langevin",
    "chains_at",
    "check_step_size",
    "langevin",
    "unadjusted_step",
]

LogDensity = Callable[[Tensor], Tensor]
"""From values, (\\*batch, \\*event), to log-densities up to a constant, (\\*batch)."""


class Chains(NamedTuple):
    r"""Where chains are.

    Attributes:
        value: Shape (\*batch, \*event).
        log_density: Of the values, shape (\*batch).
        score: Its gradient, of the values' shape.
    """

    value: Tensor
    log_density: Tensor
    score: Tensor


def langevin(
    log_density: LogDensity, start: Tensor, steps: int, step_size: float | Tensor, adjusted: bool = True
) -> Tensor:
    r"""The ends of chains of so many steps.

    A step of an adjusted chain is taken or refused so that the density stays as it is, whatever the step's size; that
    of an unadjusted chain is off by what grows with the size.

    Args:
        log_density: From values to log-densities, up to a constant.
        start: Where the chains begin, shape (\*batch, \*event).
        steps: How many.
        step_size: :math:`\eta`, in squared units of the values; a tensor for sizes of their own in each coordinate.
        adjusted: Whether by Metropolis and Hastings' rule.

    Returns:
        Values of the shape of ``start``, without gradient.

    Raises:
        OptionError: When ``steps`` is no positive integer, or the size is not positive.

    References:
        Roberts and Tweedie (1996), Exponential Convergence of Langevin Distributions and Their Discrete Approximations,
        sections 1.4.1 and 1.4.2.

    Example:
        >>> ends = langevin(lambda x: -0.5 * x.square().sum(-1), torch.zeros(1000, 2), steps=50, step_size=0.5)
        >>> 0.9 < ends.var() < 1.1
        tensor(True)
    """
    size = check_step_size("langevin", step_size)
    chains = chains_at(log_density, start)
    for _ in range(check_size("langevin", "steps", steps)):
        if adjusted:
            chains, _ = adjusted_step(log_density, chains, size)
        else:
            chains = unadjusted_step(log_density, chains, size)
    return chains.value


@torch.no_grad()
def annealed_langevin(
    denoiser: Any,
    start: Tensor,
    levels: int = 10,
    steps: int = 100,
    step_size: float = 0.1,
    context: Tensor | None = None,
) -> Tensor:
    r"""The ends of unadjusted chains that go from much noise to little.

    At each level of noise, at equal distances of time from 1 to 0, a chain takes steps of the size
    :math:`\eta \sigma_t^2` in the density of noisy data. The ends have the density of the data with the least noise.

    Args:
        denoiser: A :class:`~ppl_genmodels.networks.Denoiser`, or what answers as one.
        start: Where the chains begin, shape (\*batch, \*event): draws of about the density at time 1.
        levels: How many levels of noise, at least 2.
        steps: How many at each level.
        step_size: :math:`\eta`, as a share of the noise's variance.
        context: What the denoiser is given.

    Returns:
        Values of the shape of ``start``, without gradient.

    Raises:
        OptionError: When ``levels`` or ``steps`` is too small, or the size is not positive.

    References:
        Song and Ermon (2019), Generative Modeling by Estimating Gradients of the Data Distribution, algorithm 1, where
        :math:`\epsilon / \sigma_L^2` is twice this :math:`\eta`.

    Example:
        >>> from ppl_genmodels.networks import Denoiser, TimeMLP, VarianceExploding
        >>> denoiser = Denoiser(TimeMLP(2), VarianceExploding(0.1, 5.0))
        >>> annealed_langevin(denoiser, 5 * torch.randn(4, 2), levels=3, steps=2).shape
        torch.Size([4, 2])
    """
    size = check_step_size("annealed_langevin", step_size)
    check_size("annealed_langevin", "steps", steps)
    if check_size("annealed_langevin", "levels", levels) < 2:
        raise OptionError("annealed_langevin: levels=1, expected at least 2. Remedy: langevin() for one density.")
    given, value = () if context is None else (context,), start
    for time in time_grid(levels - 1, start):
        for _ in range(steps):
            found = denoiser(value, time, *given)
            length = size * found.sigma**2
            value = value + length * found.score + (2 * length).sqrt() * torch.randn_like(value)
    return value


@torch.no_grad()
def chains_at(log_density: LogDensity, value: Tensor) -> Chains:
    r"""Chains at some values, shape (\*batch, \*event).

    Example:
        >>> chains_at(lambda x: -0.5 * x.square().sum(-1), torch.ones(1, 2)).score
        tensor([[-1., -1.]])
    """
    density, pull = torch.func.vjp(log_density, value)  # type: ignore[misc]
    return Chains(value, density, pull(torch.ones_like(density))[0])


@torch.no_grad()
def unadjusted_step(log_density: LogDensity, chains: Chains, step_size: float | Tensor) -> Chains:
    """The chains one step on."""
    size = torch.as_tensor(step_size).to(chains.value)
    noise = torch.randn_like(chains.value)
    return chains_at(log_density, chains.value + size * chains.score + (2 * size).sqrt() * noise)


@torch.no_grad()
def adjusted_step(log_density: LogDensity, chains: Chains, step_size: float | Tensor) -> tuple[Chains, Tensor]:
    r"""The chains one step on, and which of them took it, shape (\*batch).

    Example:
        >>> chains = chains_at(lambda x: -0.5 * x.square().sum(-1), torch.zeros(3, 2))
        >>> adjusted_step(lambda x: -0.5 * x.square().sum(-1), chains, 1e-6)[1]
        tensor([True, True, True])
    """
    size = torch.as_tensor(step_size).to(chains.value)
    noise = torch.randn_like(chains.value)
    there = chains_at(log_density, chains.value + size * chains.score + (2 * size).sqrt() * noise)
    back = (chains.value - there.value - size * there.score) / (2 * size).sqrt()
    gain = there.log_density - chains.log_density + 0.5 * _sum_events(noise**2 - back**2, there.log_density)
    taken = torch.rand_like(gain).log() < gain  # refused where the density is not a number
    events = taken.reshape(*taken.shape, *(1 for _ in range(noise.dim() - taken.dim())))
    value, score = (
        torch.where(events, new, old) for new, old in ((there.value, chains.value), (there.score, chains.score))
    )
    return Chains(value, torch.where(taken, there.log_density, chains.log_density), score), taken


def check_step_size(owner: str, step_size: float | Tensor) -> float | Tensor:
    """The size, when it is a tensor or positive.

    Raises:
        OptionError: When it is not.

    Example:
        >>> check_step_size("langevin", 0.1)
        0.1
    """
    if isinstance(step_size, Tensor) or step_size > 0:
        return step_size
    raise OptionError(f"{owner}: step_size={step_size!r}, expected a positive number. Remedy: step_size=0.1.")


def _sum_events(values: Tensor, like: Tensor) -> Tensor:
    """Of the shape of log-densities."""
    return values if values.dim() == like.dim() else values.flatten(like.dim()).sum(-1)
