r"""The sliced Wasserstein distance: that of samples' shadows on lines, averaged over directions.

Convention of this module: :math:`SW_p = (E_\theta W_p^p(\theta^T x, \theta^T y))^{1/p}` over directions that are
uniform on the sphere; in one dim the distance is that of the quantile functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_genmodels.diagnostics.sample_rows import Values, checked_samples
from ppl_genmodels.diagnostics.wasserstein import Order, check_order
from ppl_genmodels.networks.sizes import check_size

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(first: Any, second: Any, *, order: Order = 2, projections: int = 200, seed: int = 0) -> float:
    r"""The sliced Wasserstein distance of two samples, of whatever many rows.

    Time grows hardly faster than the rows. Samples of :math:`D` columns that lie a vector :math:`v` apart have the
    distance :math:`\|v\| / \sqrt D` of order 2.

    Args:
        first: Shape (rows, \*event).
        second: Shape (rows, \*event).
        order: Of the distance, 1 or 2.
        projections: How many directions; a single column has but one.
        seed: Of the directions.

    Raises:
        DataError: When events differ in shape or values are not finite.
        OptionError: When the order is neither 1 nor 2, or ``projections`` is no positive integer.

    References:
        Bonneel, Rabin, Peyré and Pfister (2015), Sliced and Radon Wasserstein Barycenters of Measures, definition 4.

    Example:
        >>> sliced_wasserstein([[1.0], [2.0]], [[3.0], [4.0], [3.0], [4.0]])
        2.0
    """
    check_order("sliced_wasserstein", order)
    check_size("sliced_wasserstein", "projections", projections)
    here, there = checked_samples("sliced_wasserstein", 1, first=first, second=second)
    directions = _directions(here.shape[1], projections, seed)
    here, there = (np.sort(table @ directions, axis=0) for table in (here, there))
    share, of_first, of_second = _quantiles(len(here), len(there))
    moved = np.abs(here[of_first] - there[of_second]) ** order
    return float((share @ moved).mean() ** (1 / order))


def _directions(columns: int, count: int, seed: int) -> Values:
    """Uniform on the sphere, shape (columns, count)."""
    drawn: Values = np.random.default_rng(seed).normal(size=(columns, count if columns > 1 else 1))
    unit: Values = drawn / np.linalg.norm(drawn, axis=0)
    return unit


def _quantiles(first: int, second: int) -> tuple[Values, Any, Any]:
    """Shares of the mass in which both quantile functions are constant, and which row each has there."""
    # In whole numbers, so that no share is the remainder of rounding.
    ends = np.union1d(np.arange(1, first + 1) * second, np.arange(1, second + 1) * first)
    starts = np.concatenate([[0], ends[:-1]])
    return (ends - starts) / (first * second), starts // second, starts // first
