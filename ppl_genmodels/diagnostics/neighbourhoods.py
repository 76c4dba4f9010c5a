r"""A sample's balls: about each row, as far as its k-th nearest other row.

Convention of this module: distances are Euclidean; a ball holds its surface.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from ppl_genmodels.diagnostics.sample_rows import Values, checked_samples
from ppl_genmodels.errors import DataError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["Balls", "checked_neighbours"]

SURFACE = 1 + 1e-9
"""What rounding may add to the distance of a point on the surface, where data of few levels have many."""


@dataclass(frozen=True)
class Balls:
    """Balls about rows.

    Attributes:
        centres: Shape (rows, features).
        radii: Shape (rows,).
    """

    centres: Values
    radii: Values

    @classmethod
    def about(cls, rows: Values, neighbours: int) -> Balls:
        """As far as the nearest other row, or as the second nearest, and so on.

        Example:
            >>> Balls.about(np.array([[0.0], [1.0], [3.0]]), 1).radii
            array([1., 1., 2.])
        """
        distances, _ = NearestNeighbors(n_neighbors=neighbours).fit(rows).kneighbors()
        return cls(rows, distances[:, -1])

    def holding(self, points: Values) -> NDArray[np.int64]:
        """In how many balls each point lies, shape (points,).

        Example:
            >>> Balls.about(np.array([[0.0], [1.0], [3.0]]), 1).holding(np.array([[0.5], [2.0], [9.0]]))
            array([2, 2, 0])
        """
        return np.concatenate([inside.sum(1) for inside in self._inside(points)])

    def held(self, points: Values) -> NDArray[np.int64]:
        """How many points each ball holds, shape (rows,).

        Example:
            >>> Balls.about(np.array([[0.0], [1.0], [3.0]]), 1).held(np.array([[0.5], [0.6], [9.0]]))
            array([2, 2, 0])
        """
        return np.sum([inside.sum(0) for inside in self._inside(points)], axis=0)

    def _inside(self, points: Values) -> Iterator[NDArray[np.bool_]]:
        """Which balls hold which points, shape (some points, balls) each."""
        for distances in pairwise_distances_chunked(points, self.centres):
            yield distances <= self.radii * SURFACE


def checked_neighbours(where: str, neighbours: int, **samples: Any) -> tuple[Values, ...]:
    r"""Samples as tables of the same columns, each with more rows than ``neighbours``.

    Args:
        where: Who asks, for the message.
        neighbours: Which nearest row is the farthest of a ball.
        **samples: Shape (rows, \*event), by the names of the arguments.

    Raises:
        OptionError: When ``neighbours`` is no positive integer.
        DataError: When rows are too few or hold values that are not finite, or events differ in shape.
    """
    check_size(where, "neighbours", neighbours)
    tables = checked_samples(where, **samples)
    fewest = min(map(len, tables))
    if fewest <= neighbours:
        raise DataError(
            f"{where}: a sample has {fewest} rows, expected more than neighbours={neighbours}. Remedy: draw more."
        )
    return tables
