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

FEWEST_DRAWS = 21
"""Fewer draws leave fewer than five in the tail, which say nothing of its shape."""

EVEN = 1e-3
"""Log weights closer than this, in nats, are equal: no tail is left to fit."""

ROWS_AT_ONCE = 4096


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
    fitted = usable & ~even
    if fitted.any():
        with np.errstate(all="ignore"):
            shape[fitted] = arviz.psislw(log_weight[fitted])[1]
    return shape


def _tail_start(log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest log weight below the tail, whose length is the one that ArviZ takes."""
    draws = log_weight.shape[-1]
    tail = int(np.ceil(min(draws / 5, 3 * np.sqrt(draws))))
    start: NDArray[np.float64] = np.partition(log_weight, -tail - 1, axis=-1)[:, -tail - 1]
    return start
