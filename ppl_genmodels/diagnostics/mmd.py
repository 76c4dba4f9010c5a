r"""Two samples told apart by their mean embeddings: the maximum mean discrepancy and its test.

Convention of this module: the kernel is the mean of Gaussians :math:`\exp(-\|x - y\|^2 / 2 h^2)`, so that it is 1 for a
row with itself; bandwidths :math:`h` have the data's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist, squareform

from ppl_genmodels.diagnostics.sample_rows import Values, checked_samples
from ppl_genmodels.errors import DataError, OptionError

__all__ = ["MMDTest", "mmd_test"]

FACTORS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class MMDTest:
    """The squared maximum mean discrepancy of two samples.

    Attributes:
        squared_mmd: Its unbiased estimate, about zero and maybe below it for samples of one distribution.
        p_value: Share of the permutations, the samples' own among them, whose estimate is as large or larger.
        bandwidth: The median distance of the rows of both samples.
    """

    squared_mmd: float
    p_value: float
    bandwidth: float

    def __str__(self) -> str:
        return (
            f"The squared MMD is {self.squared_mmd:.3g} at bandwidths of {self.bandwidth:.3g}, p = {self.p_value:.3g}."
        )


def mmd_test(
    first: Any, second: Any, *, factors: Sequence[float] = FACTORS, permutations: int = 500, seed: int = 0
) -> MMDTest:
    r"""The unbiased squared maximum mean discrepancy, with the p-value of its permutation test.

    .. math:: \widehat{\mathrm{MMD}}^2 = \frac{\sum_{i \ne j} k(x_i, x_j)}{m(m - 1)} +
        \frac{\sum_{i \ne j} k(y_i, y_j)}{n(n - 1)} - \frac{2 \sum_{i,j} k(x_i, y_j)}{mn}

    The bandwidths are the median distance of all rows and its multiples, in the values' own units: bring columns of
    different units to one scale first. Memory grows with the square of the rows.

    Args:
        first: Shape (rows, \*event).
        second: Shape (rows, \*event), maybe of other many rows.
        factors: Of the median distance, one for each bandwidth.
        permutations: How often the rows are dealt anew to two samples; the least p-value is one over one more.
        seed: Of the permutations.

    Raises:
        DataError: When a sample has fewer than 2 rows or values that are not finite, events differ in shape, or more
            than half the pairs of rows are equal.
        OptionError: When a factor or the number of permutations is not positive.

    References:
        Gretton, Borgwardt, Rasch, Schoelkopf and Smola (2012), A Kernel Two-Sample Test, equation 3 and section 8.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> first, second = generator.normal(size=(2, 100, 2))
        >>> print(mmd_test(first, second + 1.0))
        The squared MMD is 0.123 at bandwidths of 1.78, p = 0.002.
    """
    if permutations < 1 or not factors or min(factors) <= 0:
        raise OptionError(
            f"mmd_test: factors={tuple(factors)} and permutations={permutations}, expected positive numbers. Remedy: "
            f"factors={FACTORS}, permutations=500."
        )
    tables = checked_samples("mmd_test", first=first, second=second)
    distances = pdist(np.concatenate(tables))
    bandwidth = float(np.median(distances))
    if bandwidth == 0:
        raise DataError(
            "mmd_test: more than half the pairs of rows are equal, which leaves no distance as the bandwidth. Remedy: "
            "compare how often each row comes, or add a little noise to both samples."
        )
    kernel = squareform(np.mean([np.exp(-0.5 * (distances / (factor * bandwidth)) ** 2) for factor in factors], 0))
    estimates = _estimates(kernel, _dealt(len(tables[0]), len(tables[1]), permutations, seed))
    p_value = float((estimates >= estimates[0] - 1e-12).mean())
    return MMDTest(float(estimates[0]), p_value, bandwidth)


def _dealt(first: int, second: int, permutations: int, seed: int) -> Values:
    """Which rows are in the first sample, shape (row, 1 + permutation): as given, and by chance."""
    given = np.repeat([1.0, 0.0], [first, second])
    generator = np.random.default_rng(seed)
    return np.stack([given, *(generator.permutation(given) for _ in range(permutations))], -1)


def _estimates(kernel: Values, chosen: Values) -> Values:
    """The estimate for each way of dealing; the kernel has a zero diagonal."""
    first = chosen[:, 0].sum()
    second = len(chosen) - first
    to_first = kernel @ chosen
    within_first = (chosen * to_first).sum(0)
    across = to_first.sum(0) - within_first
    within_second = kernel.sum() - within_first - 2 * across
    found: Values = (
        within_first / (first * (first - 1)) + within_second / (second * (second - 1)) - 2 * across / (first * second)
    )
    return found
