r"""Pareto-smoothed importance sampling: how far a guide is from the posterior, row by row.

Convention of this module: log weights are in nats, with the draws along the first axis. The shape
k-hat of their upper tail says how many moments the weights have: below 0.5 a finite variance, below
0.7 estimates that can be corrected by reweighting, above 1 not even a mean.
"""

from __future__ import annotations

import arviz
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RELIABLE", "pareto_k"]

RELIABLE = 0.7
"""k-hat below which importance weights can be relied on (Vehtari et al., 2024)."""

SMALLEST = float(np.log(np.finfo(float).tiny))
"""Log weights further than this below the largest vanish."""

FEWEST_DRAWS = 21
"""Fewer draws leave fewer than five in the tail, which say nothing of its shape."""

EVEN = 1e-3
"""Log weights closer than this, in nats, are equal: no tail is left to fit."""

ROWS_AT_ONCE = 4096
NUMBERS_AT_ONCE = 2**20
"""Of the table (rows, candidates, tail) from which shapes are fitted."""


def pareto_k(log_weight: ArrayLike) -> NDArray[np.float64]:
    r"""The PSIS shape :math:`\hat k` of each row's importance weights.

    Zero where the largest weights agree to within 0.1 %: such weights are bounded. NaN with fewer
    than 21 draws and where a log weight is NaN or plus infinity.

    Args:
        log_weight: :math:`\log p(x, z) - \log q(z)` in nats, shape (draws, \*rows).

    Returns:
        Shape (\*rows).

    References:
        Vehtari et al. (2024), Pareto smoothed importance sampling, JMLR 25(72).
        Yao et al. (2018), Yes, but did it work? Evaluating variational inference, ICML.

    Example:
        >>> standard = np.random.default_rng(0).normal(size=1000)
        >>> narrow = 0.5 * (1 - 0.1**2) * standard**2  # N(0, 0.1) for N(0, 1)
        >>> pareto_k(np.stack([0.0 * narrow, narrow], -1)) > RELIABLE
        array([False,  True])
    """
    weights = np.asarray(log_weight)
    flat = weights.reshape(len(weights), -1).T
    shape = np.full(len(flat), np.nan)
    if flat.shape[1] >= FEWEST_DRAWS:
        for start in range(0, len(flat), ROWS_AT_ONCE):
            chunk = np.array(flat[start : start + ROWS_AT_ONCE], dtype=np.float64, order="C")
            shape[start : start + ROWS_AT_ONCE] = _fit(chunk)
    return shape.reshape(weights.shape[1:])


def _fit(log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape of each row's tail; rows first, draws last."""
    shape = np.full(len(log_weight), np.nan)
    largest = log_weight.max(-1)
    usable = np.isfinite(largest)
    with np.errstate(invalid="ignore"):
        even = usable & (largest - _tail_start(log_weight) < EVEN)
    shape[even] = 0.0
    fitted = np.flatnonzero(usable & ~even)
    tail = _tail(log_weight[fitted])
    whole = tail[:, 1] > 0.0
    with np.errstate(all="ignore"):
        shape[fitted[whole]] = _pareto_shapes(tail[whole, 1:])
        for row in fitted[~whole]:
            shape[row] = arviz.psislw(log_weight[row])[1]
    return shape


def _tail_length(draws: int) -> int:
    """How many of the largest weights are the tail, as ArviZ has it."""
    return int(np.ceil(min(draws / 5, 3 * np.sqrt(draws))))


def _tail_start(log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest log weight below the tail."""
    tail = _tail_length(log_weight.shape[-1])
    start: NDArray[np.float64] = np.partition(log_weight, -tail - 1, axis=-1)[:, -tail - 1]
    return start


def _tail(log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much the largest weights exceed the one below the tail, in rising order, the largest weight being 1.

    The first of each row is that one itself, zero; the next is zero too where weights are tied or vanish, which makes
    the tail shorter.
    """
    tail = _tail_length(log_weight.shape[-1])
    largest = np.sort(np.partition(log_weight, -tail - 1, axis=-1)[:, -tail - 1 :], axis=-1)
    weight = np.exp(np.maximum(largest - largest[:, -1:], SMALLEST))
    return weight - weight[:, :1]


def _pareto_shapes(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """The fit of ArviZ, whose loop over rows takes most of the time of an inference, for many rows at once.

    References:
        Zhang and Stephens (2009), A new and efficient estimation method for the generalized Pareto distribution.
    """
    count = 30 + int(tail.shape[1] ** 0.5)
    size = max(1, NUMBERS_AT_ONCE // (count * tail.shape[1]))
    parts = [_shapes(tail[start : start + size], count) for start in range(0, len(tail), size)]
    return np.concatenate(parts) if parts else np.empty(0)


def _shapes(tail: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    length = tail.shape[1]
    quartile = tail[:, int(length / 4 + 0.5) - 1, None]
    scale = (1 - np.sqrt(count / (np.arange(1, count + 1) - 0.5))) / (3 * quartile) + 1 / tail[:, -1:]
    slope = np.log1p(-scale[:, :, None] * tail[:, None]).mean(-1)
    likelihood = length * (np.log(-scale / slope) - slope - 1)
    weight = np.exp(likelihood - likelihood.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    weight[weight < 10 * np.finfo(float).eps] = 0.0
    mean = (scale * weight).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    slope = np.log1p(-mean * tail).mean(-1)
    shapes: NDArray[np.float64] = (length * slope + 10 * 0.5) / (length + 10)
    return shapes
