r"""Whether samples were learned by heart: their distances to the nearest training rows, beside those of held-out rows.

Convention of this module: distances are Euclidean, in the data's units. Samples that are nearer to training rows than
held-out rows are were copied in part; samples that are farther away are only not like the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from ppl_genmodels.diagnostics.sample_rows import Values, checked_samples

__all__ = ["NearestNeighbours", "nearest_neighbours"]

LEVEL = 0.01
"""The p-value below which samples are called copies."""

TWIN = 0.01
"""Rows nearer than this share of the held-out rows' median distance are the same but for rounding."""


@dataclass(frozen=True, eq=False)
class NearestNeighbours:
    """What lies nearest to each sample.

    Attributes:
        nearest: Number of the training row nearest to each sample, shape (samples,).
        distances: To it, shape (samples,).
        held_out_distances: Of each held-out row to the training row nearest to it, shape (held-out rows,).
        p_value: How often samples of the data's own distribution would lie as near to the training rows or nearer.
        copies: Share of the samples that are a training row but for rounding.
        duplicates: Share of the samples that are another sample but for rounding.
    """

    nearest: NDArray[np.int64]
    distances: Values
    held_out_distances: Values
    p_value: float
    copies: float
    duplicates: float

    @property
    def memorised(self) -> bool:
        """Whether the samples lie nearer to the training rows than chance has it."""
        return self.p_value < LEVEL

    def __str__(self) -> str:
        verdict = "The samples lie too near to" if self.memorised else "The samples are no nearer than new data to"
        return (
            f"{verdict} training rows: at a median distance of {np.median(self.distances):.3g}, held-out rows at "
            f"{np.median(self.held_out_distances):.3g}, p = {self.p_value:.3g}. {100 * self.copies:.3g} % of the "
            f"samples are training rows, {100 * self.duplicates:.3g} % are other samples."
        )


def nearest_neighbours(samples: Any, train: Any, held_out: Any) -> NearestNeighbours:
    r"""Distances of samples and of held-out rows to the training rows, compared by the rank sum test.

    A model that misses the wide parts of the data draws nearer to training rows too, without having copied any: look at
    the samples beside their nearest rows. Data of few levels have copies and duplicates of their own.

    Args:
        samples: Shape (rows, \*event).
        train: What the model was fitted to, shape (rows, \*event).
        held_out: Of the same distribution, and not seen in the fit, shape (rows, \*event).

    Raises:
        DataError: When one has fewer than 2 rows or values that are not finite, or events differ in shape.

    References:
        Meehan, Chaudhuri and Dasgupta (2020), A Non-Parametric Test to Detect Data-Copying in Generative Models,
        section 3.1.

    Example:
        >>> train, held_out = np.random.default_rng(0).normal(size=(2, 300, 2))
        >>> print(nearest_neighbours(train[:50] + 1e-9, train, held_out))
        The samples lie too near to training rows: at a median distance of 1.41e-09, held-out rows at 0.0..., p = ...
        100 % of the samples are training rows, 0 % are other samples.
    """
    where = "nearest_neighbours"
    drawn, fitted, new = checked_samples(where, samples=samples, train=train, held_out=held_out)
    search = NearestNeighbors(n_neighbors=1).fit(fitted)
    distances, nearest = (found[:, 0] for found in search.kneighbors(drawn))
    usual = search.kneighbors(new)[0][:, 0]
    apart = NearestNeighbors(n_neighbors=1).fit(drawn).kneighbors()[0][:, 0]
    same = TWIN * np.median(usual)
    p_value = float(mannwhitneyu(distances, usual, alternative="less").pvalue)
    copies, duplicates = (float((found <= same).mean()) for found in (distances, apart))
    return NearestNeighbours(nearest, distances, usual, p_value, copies, duplicates)
