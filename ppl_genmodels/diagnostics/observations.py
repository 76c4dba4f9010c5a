"""Vectors of features beside each other: what samples, reconstructions and data share when drawn.

Convention of this module: each group is a named array of shape (row, feature); one feature is drawn
as histograms, two as points, more as intervals that hold the middle half and nine tenths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_genmodels.diagnostics.style import PALETTE, legend_beside

__all__ = ["MOST_POINTS", "draw_groups", "flat_rows", "spread_index"]

MOST_POINTS = 2000
MOST_FEATURES = 40

Values = NDArray[np.float64]


def spread_index(rows: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` row numbers, evenly spread over all rows.

    Example:
        >>> spread_index(10, 4).tolist()
        [0, 3, 6, 9]
    """
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def flat_rows(array: ArrayLike) -> Values:
    r"""Shape (row, feature) of an array of shape (row, \*event).

    Example:
        >>> flat_rows(np.zeros((5, 2, 3))).shape
        (5, 6)
    """
    values = np.asarray(array, dtype=np.float64)
    return values.reshape(len(values), -1)


def draw_groups(ax: Axes, groups: Mapping[str, Values]) -> None:
    """Draws the groups on one axes by the number of their features, the first in gray.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().subplots()
        >>> draw_groups(ax, {"data": np.zeros((9, 2)), "samples": np.ones((9, 2))})
        >>> ax.get_xlabel()
        'feature 0'
    """
    width = next(iter(groups.values())).shape[1]
    drawn = {name: _complete(values) for name, values in groups.items()}
    drawn = {name: values for name, values in drawn.items() if len(values)}
    draw = _histograms if width == 1 else _points if width == 2 else _intervals
    draw(ax, drawn, _colours(drawn))
    if len(drawn) > 1:
        legend_beside(ax)


def _colours(groups: Mapping[str, Values]) -> list[str]:
    return [PALETTE[0]] if len(groups) == 1 else ["#717581", *PALETTE]


def _complete(values: Values) -> Values:
    return values[np.isfinite(values).all(-1)]


def _histograms(ax: Axes, groups: Mapping[str, Values], colours: list[str]) -> None:
    everything = np.concatenate([values.ravel() for values in groups.values()])
    edges = np.histogram_bin_edges(everything, bins=min(40, max(5, int(len(everything) ** 0.5))))
    for (name, values), colour in zip(groups.items(), colours, strict=False):
        ax.hist(values.ravel(), edges.tolist(), density=True, color=colour, alpha=0.45, label=name)
    ax.set(xlabel="value", ylabel="density")


def _points(ax: Axes, groups: Mapping[str, Values], colours: list[str]) -> None:
    for (name, values), colour in zip(groups.items(), colours, strict=False):
        some = values[spread_index(len(values), MOST_POINTS)]
        ax.scatter(some[:, 0], some[:, 1], s=10, color=colour, alpha=0.6, linewidths=0, label=name)
    ax.set(xlabel="feature 0", ylabel="feature 1")


def _intervals(ax: Axes, groups: Mapping[str, Values], colours: list[str]) -> None:
    features = min(MOST_FEATURES, next(iter(groups.values())).shape[1])
    for index, (name, values) in enumerate(groups.items()):
        place = np.arange(features) + 0.3 * (index - (len(groups) - 1) / 2)
        low, q1, middle, q3, high = np.quantile(values[:, :features], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        style: dict[str, Any] = {"color": colours[index]}
        ax.vlines(place, low, high, linewidth=1, **style)
        ax.vlines(place, q1, q3, linewidth=4, **style)
        ax.scatter(place, middle, s=14, zorder=3, label=name, edgecolors="white", **style)
    ax.set(xlabel="feature", ylabel="value (median, 50 % and 90 % intervals)")
