r"""Precision and recall: whether samples lie among the data, and data among the samples.

Convention of this module: a sample's support is the union of balls about its rows, each as far as the row's k-th
nearest other row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_genmodels.diagnostics.neighbourhoods import Balls, checked_neighbours

__all__ = ["PrecisionRecall", "precision_recall"]


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of rows that lie in the support of the other sample.

    Attributes:
        precision: Of the samples in the support of the data: fidelity.
        recall: Of the data in the support of the samples: variety.
    """

    precision: float
    recall: float

    def __str__(self) -> str:
        return f"The precision is {self.precision:.3f} and the recall {self.recall:.3f}."


def precision_recall(samples: Any, data: Any, *, neighbours: int = 3) -> PrecisionRecall:
    r"""The improved precision and recall of samples with respect to data.

    Both grow with ``neighbours`` and stay below 1 for samples of the data's own distribution: compare with what
    held-out data give in the samples' place. One outlier makes a large ball; :func:`density_coverage` minds that less.

    Args:
        samples: Shape (rows, \*event).
        data: Shape (rows, \*event); of about as many rows.
        neighbours: Which nearest row is the farthest of a ball.

    Raises:
        DataError: When a sample has no more rows than ``neighbours`` or values that are not finite, or events differ in
            shape.
        OptionError: When ``neighbours`` is no positive integer.

    References:
        Kynkäänniemi, Karras, Laine, Lehtinen and Aila (2019), Improved Precision and Recall Metric for Assessing
        Generative Models, equations 1 and 2.

    Example:
        >>> print(precision_recall([[0.1], [0.2], [0.3]], [[0.0], [1.0], [2.0], [9.0]], neighbours=1))
        The precision is 1.000 and the recall 0.250.
    """
    drawn, seen = checked_neighbours("precision_recall", neighbours, samples=samples, data=data)
    precision = (Balls.about(seen, neighbours).holding(drawn) > 0).mean()
    recall = (Balls.about(drawn, neighbours).holding(seen) > 0).mean()
    return PrecisionRecall(float(precision), float(recall))
