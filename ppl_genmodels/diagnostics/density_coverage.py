r"""Density and coverage: how thickly samples lie among the data, and how many of the data have a sample near.

Convention of this module: near a datum is what lies no farther than its k-th nearest other datum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_genmodels.diagnostics.neighbourhoods import Balls, checked_neighbours

__all__ = ["DensityCoverage", "density_coverage"]


@dataclass(frozen=True)
class DensityCoverage:
    """How samples lie among data.

    Attributes:
        density: The mean number of data that a sample is near to, in units of k: fidelity. It may exceed 1.
        coverage: Share of the data that have a sample near: variety.
    """

    density: float
    coverage: float

    def __str__(self) -> str:
        return f"The density is {self.density:.3f} and the coverage {self.coverage:.3f}."


def density_coverage(samples: Any, data: Any, *, neighbours: int = 5) -> DensityCoverage:
    r"""The density and coverage of samples with respect to data.

    For :math:`M` samples from the distribution of :math:`N` data the expected density is 1 and the expected coverage
    :math:`1 - \prod_{j=1}^k \frac{N - j}{M + N - j}`, whatever the distribution and its dims.

    Args:
        samples: Shape (rows, \*event).
        data: Shape (rows, \*event).
        neighbours: :math:`k`.

    Raises:
        DataError: When a sample has no more rows than ``neighbours`` or values that are not finite, or events differ in
            shape.
        OptionError: When ``neighbours`` is no positive integer.

    References:
        Naeem, Oh, Uh, Choi and Yoo (2020), Reliable Fidelity and Diversity Metrics for Generative Models, section 3.

    Example:
        >>> print(density_coverage([[0.1], [0.2], [0.3]], [[0.0], [1.0], [2.0], [9.0]], neighbours=1))
        The density is 2.000 and the coverage 0.500.
    """
    drawn, seen = checked_neighbours("density_coverage", neighbours, samples=samples, data=data)
    held = Balls.about(seen, neighbours).held(drawn)
    return DensityCoverage(float(held.sum() / (neighbours * len(drawn))), float((held > 0).mean()))
