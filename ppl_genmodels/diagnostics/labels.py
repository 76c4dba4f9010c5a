"""Labels of rows and the colours that stand for them.

Convention of this module: labels are categories when they are text or few different whole numbers,
a scale otherwise. Beyond ten categories the rarest share one name, "other".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_genmodels.diagnostics.style import PALETTE, legend_beside
from ppl_genmodels.errors import DataError

__all__ = ["Categories", "as_categories", "scatter_labelled"]

MOST = len(PALETTE)


@dataclass(frozen=True)
class Categories:
    """Rows sorted into named categories.

    Attributes:
        names: What each category is called.
        codes: The category of each row, shape (row,).

    Example:
        >>> Categories(("a", "b"), np.array([1, 0])).names[1]
        'b'
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]


def as_categories(labels: ArrayLike | None, rows: int) -> Categories | None:
    """The labels as categories, or None when there are none or they are a scale.

    Raises:
        DataError: When there is not one label for each of the ``rows``.

    Example:
        >>> as_categories(["a", "b", "a"], 3)
        Categories(names=('a', 'b'), codes=array([0, 1, 0]))
        >>> as_categories(np.linspace(0, 1, 50), 50) is None
        True
    """
    if labels is None:
        return None
    values = checked_labels(labels, rows)
    names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    if values.dtype.kind == "f" and (len(names) > MOST or (names != np.round(names)).any()):
        return None
    if values.dtype.kind in "iu" and len(names) > 2 * MOST:
        return None
    if len(names) <= MOST:
        return Categories(tuple(map(_name, names)), codes.ravel())
    kept = np.sort(np.argsort(-counts, kind="stable")[: MOST - 1])
    place = np.full(len(names), MOST - 1)
    place[kept] = np.arange(len(kept))
    return Categories((*map(_name, names[kept]), "other"), place[codes.ravel()])


def checked_labels(labels: ArrayLike, rows: int) -> NDArray[Any]:
    """The labels as an array of one per row.

    Raises:
        DataError: When there is not one label for each of the ``rows``.

    Example:
        >>> checked_labels(["a", 2], 2).tolist()
        ['a', '2']
    """
    values = np.asarray(labels)
    if values.ndim != 1 or len(values) != rows:
        raise DataError(
            f"labels: {rows} rows need a label each, got shape {values.shape}. Give a one-dimensional array."
        )
    return values.astype(str) if values.dtype.kind in "OSb" else values


def _name(value: Any) -> str:
    return f"{value:g}" if isinstance(value, np.floating) else str(value)


def scatter_labelled(ax: Axes, points: NDArray[Any], labels: ArrayLike | None) -> None:
    """Points of shape (row, 2), coloured by their labels, with a legend or a colour bar.

    Raises:
        DataError: When there is not one label for each point.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().subplots()
        >>> scatter_labelled(ax, np.zeros((3, 2)), ["a", "b", "a"])
        >>> len(ax.collections)
        2
    """
    size = float(np.clip(4000 / max(1, len(points)), 5, 30))
    style: dict[str, Any] = {"s": size, "alpha": 0.75, "linewidths": 0}
    categories = as_categories(labels, len(points))
    if categories is not None:
        _scatter_categories(ax, points, categories, style)
    elif labels is not None:
        scale = ax.scatter(points[:, 0], points[:, 1], c=np.asarray(labels, float), cmap="cividis", **style)
        ax.figure.colorbar(scale, ax=ax, label="label")
    else:
        ax.scatter(points[:, 0], points[:, 1], color=PALETTE[0], **style)


def _scatter_categories(ax: Axes, points: NDArray[Any], categories: Categories, style: dict[str, Any]) -> None:
    for code, name in enumerate(categories.names):
        chosen = points[categories.codes == code]
        ax.scatter(chosen[:, 0], chosen[:, 1], color=PALETTE[code], label=name, **style)
        if len(chosen) and len(name) <= 4:
            _write_at_middle(ax, chosen, name)
    legend_beside(ax, "label")


def _write_at_middle(ax: Axes, points: NDArray[Any], name: str) -> None:
    """So that colour is not the only thing that tells categories apart."""
    x, y = np.median(points, 0)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
    ax.text(x, y, name, ha="center", va="center", fontsize=10, weight="bold", bbox=box)
