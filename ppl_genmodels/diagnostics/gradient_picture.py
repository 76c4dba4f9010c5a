"""The comparison of gradient estimators as a picture: a row of panels for each site, a line for each estimator.

Convention of this module: variance, time and their product are on logarithmic axes; what is recommended is in bold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, NullFormatter
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.gradient_noise import ROUNDING
from ppl_genmodels.diagnostics.style import PALETTE, new_figure, styled

__all__ = ["draw_comparison"]

Values = NDArray[np.float64]

COLOURS = {"unbiased": PALETTE[0], "not told apart from 0": PALETTE[4], "reference": PALETTE[2], "biased": PALETTE[1]}
"""Of the verdicts."""

PANELS = (
    ("bias", "bias / gradient"),
    ("variance", "variance of the gradient"),
    ("time", "time of a step (fastest = 1)"),
    ("variance_time", "variance × time"),
)
"""Columns of the table and what they are called."""


@styled
def draw_comparison(table: pd.DataFrame, lengths: Mapping[str, float], axes: Any = None) -> NDArray[Any]:
    """Draws it.

    Args:
        table: The comparison.
        lengths: For each site the length of the gradient that the bias was measured against.
        axes: Of shape (sites, 4); new ones when None.

    Returns:
        The axes.
    """
    sites = list(table["site"].unique())
    heights = [1.1 + 0.27 * int((table["site"] == site).sum()) for site in sites]
    if axes is None:
        figure = new_figure((11.0, 0.6 + sum(heights)))
        axes = figure.subplots(len(sites), len(PANELS), squeeze=False, height_ratios=heights)
    panels: NDArray[Any] = np.asarray(axes).reshape(len(sites), len(PANELS))
    for site, row in zip(sites, panels, strict=True):
        here = table[table["site"] == site].iloc[::-1]
        for (column, label), panel in zip(PANELS, row, strict=True):
            _draw(panel, here, column, lengths[site])
            panel.set(xlabel=label)
        _name(row, here)
        row[0].set_title(f"site {site}", loc="left")
    _legend(panels, table)
    return panels


def _draw(panel: Axes, here: pd.DataFrame, column: str, length: float) -> None:
    """One quantity of all estimators of a site, with two standard errors to each side."""
    low, value, high = _intervals(here, column, length)
    for place, verdict in enumerate(here["verdict"]):
        spread = [[value[place] - low[place]], [high[place] - value[place]]]
        shown = spread if high[place] > low[place] else None
        panel.errorbar(value[place], place, xerr=shown, fmt="o", color=COLOURS[verdict], markersize=6, linewidth=1.4)
    panel.set_ylim(-0.6, len(here) - 0.4)
    if column in ("bias", "time"):
        most = float(np.nanmax(high)) if np.isfinite(high).any() else 1.0
        panel.set_xlim(-0.04 * most if column == "bias" else 0.0, 1.1 * max(most, 1e-9))
    else:
        _logarithmic(panel, float(np.nanmax(high) / np.nanmin(low)))


def _intervals(here: pd.DataFrame, column: str, length: float) -> tuple[Values, Values, Values]:
    """Lower limits, values and upper limits; the bias's are those of its square."""
    value = here[column].to_numpy(float)
    if column == "time":
        return value, value, value
    if column == "bias":
        square = value**2
        error = (value + here["bias_error"].to_numpy(float)) ** 2 - square
        low, high = np.sqrt(np.maximum(square - 2 * error, 0.0)), np.sqrt(square + 2 * error)
        return low / length, value / length, high / length
    error = here["variance_error"].to_numpy(float) * (1.0 if column == "variance" else here["time"].to_numpy(float))
    value = np.maximum(value, (ROUNDING * length) ** 2)
    return np.maximum(value - 2 * error, 0.1 * value), value, value + 2 * error


def _logarithmic(panel: Axes, span: float) -> None:
    """A logarithmic axis with few labels."""
    panel.set_xscale("log")
    narrow = span < 300
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6) if narrow else LogLocator(numticks=4))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}") if narrow else LogFormatterMathtext())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.12)


def _name(row: NDArray[Any], here: pd.DataFrame) -> None:
    """The estimators' names, left of the first panel."""
    for panel in row[1:]:
        panel.set_yticks(range(len(here)), [])
    row[0].set_yticks(range(len(here)), here["estimator"].tolist())
    for tick, best in zip(row[0].get_yticklabels(), here["recommended"], strict=True):
        tick.set_fontweight("bold" if best else "normal")


def _legend(panels: NDArray[Any], table: pd.DataFrame) -> None:
    """What the colours mean, below all panels."""
    shown = [verdict for verdict in COLOURS if verdict in set(table["verdict"])]
    handles = [panels[0, 0].plot([], [], "o", color=COLOURS[verdict], label=verdict)[0] for verdict in shown]
    panels[0, 0].figure.legend(handles=handles, loc="outside lower center", ncols=len(shown))
