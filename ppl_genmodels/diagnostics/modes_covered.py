r"""How many of a mixture's known modes samples cover, and how many samples lie at one.

Convention of this module: a sample belongs to the centre nearest to it, and is of high quality when no farther from it
than the radius, in the data's units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min

from ppl_genmodels.diagnostics.sample_rows import checked_samples
from ppl_genmodels.errors import OptionError

__all__ = ["ModesCovered", "modes_covered"]


@dataclass(frozen=True, eq=False)
class ModesCovered:
    """Samples at the modes of a mixture.

    Attributes:
        counts: Samples of high quality at each centre, shape (modes,).
        covered: Modes that have such a sample.
        high_quality: Share of the samples that are of high quality.
        divergence: Of the shares of the modes among them from even ones, in nats; infinite when there are none.
    """

    counts: NDArray[np.int64]
    covered: int
    high_quality: float
    divergence: float

    def __str__(self) -> str:
        return (
            f"{self.covered} of {len(self.counts)} modes are covered, and {100 * self.high_quality:.1f} % of the "
            f"samples lie at one; their shares diverge from even ones by {self.divergence:.3f} nats."
        )


def modes_covered(samples: Any, centres: Any, radius: float) -> ModesCovered:
    r"""The number of modes that have a sample within the radius, and the share of the samples that are at one.

    Args:
        samples: Shape (rows, \*event).
        centres: Of the modes, shape (modes, \*event).
        radius: Three standard deviations of a mode, by custom.

    Raises:
        DataError: When values are not finite or events differ in shape.
        OptionError: When the radius is not positive.

    References:
        Srivastava, Valkov, Russell, Gutmann and Sutton (2017), VEEGAN, section 4.1.

    Example:
        >>> print(modes_covered([[0.1], [0.2], [3.9], [7.0]], [[0.0], [4.0], [20.0]], radius=0.5))
        2 of 3 modes are covered, and 75.0 % of the samples lie at one; their shares diverge from even ones by
        0.462 nats.
    """
    if not radius > 0:
        raise OptionError(f"modes_covered: radius={radius}, expected a positive number. Remedy: three deviations.")
    drawn, places = checked_samples("modes_covered", 1, samples=samples, centres=centres)
    nearest, distances = pairwise_distances_argmin_min(drawn, places)
    near = distances <= radius
    counts = np.bincount(nearest[near], minlength=len(places))
    return ModesCovered(counts, int((counts > 0).sum()), float(near.mean()), _divergence(counts))


def _divergence(counts: NDArray[np.int64]) -> float:
    if not counts.any():
        return float("inf")
    shares = counts[counts > 0] / counts.sum()
    return float((shares * np.log(shares * len(counts))).sum())
