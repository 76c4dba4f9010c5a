r"""The Wasserstein distance of two samples: the least mean distance that rows are moved to make one sample the other.

Convention of this module: distances are Euclidean, in the data's units;
:math:`W_p = \min_\pi (\tfrac1n \sum_i \|x_i - y_{\pi(i)}\|^p)^{1/p}` for samples of :math:`n` rows each.
"""

from __future__ import annotations

from typing import Any, Literal

from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ppl_genmodels.diagnostics.sample_rows import checked_samples
from ppl_genmodels.errors import DataError, OptionError

__all__ = ["Order", "check_order", "wasserstein"]

Order = Literal[1, 2]


def wasserstein(first: Any, second: Any, *, order: Order = 1) -> float:
    r"""The exact Wasserstein distance of two samples of equally many rows.

    Time grows with the cube of the rows: a thousand take about a second. The distance of two samples from one
    distribution is not zero, and falls slowly with the rows where dims are many: compare with that of two parts of the
    data.

    Args:
        first: Shape (rows, \*event).
        second: Shape (rows, \*event).
        order: Of the distance, 1 or 2.

    Raises:
        DataError: When the samples differ in rows or events, or hold values that are not finite.
        OptionError: When the order is neither.

    References:
        Peyré and Cuturi (2019), Computational Optimal Transport, equation 2.5 and section 3.5.

    Example:
        >>> wasserstein([[0.0, 0.0], [5.0, 0.0]], [[5.0, 1.0], [0.0, 3.0]])
        2.0
    """
    check_order("wasserstein", order)
    here, there = checked_samples("wasserstein", 1, first=first, second=second)
    if len(here) != len(there):
        fewest = min(len(here), len(there))
        raise DataError(
            f"wasserstein: first has {len(here)} rows and second {len(there)}, expected equally many. Remedy: pass "
            f"first[:{fewest}] and second[:{fewest}], or use sliced_wasserstein."
        )
    costs = cdist(here, there) ** order
    return float(costs[linear_sum_assignment(costs)].mean() ** (1 / order))


def check_order(where: str, order: int) -> None:
    """Refuses an order that is neither 1 nor 2.

    Raises:
        OptionError: When it is not.
    """
    if order not in (1, 2):
        raise OptionError(f"{where}: order={order!r}, expected 1 or 2. Remedy: order=1.")
