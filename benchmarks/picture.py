"""Results as pictures: the steps of every case, and their growth.

Convention of this module: ratios on a logarithmic axis, the reference's one as a line, a dot for a median and a bar
from quartile to quartile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.growth import AXES, Grown, lines
from benchmarks.interleaved import Rounds, summary
from benchmarks.ways import LIBRARY, REFERENCE, WAYS
from ppl_genmodels.diagnostics.style import PALETTE

__all__ = ["draw_growth", "draw_steps"]

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
"""Labelled where an axis reaches them."""


def draw_steps(found: Mapping[str, Rounds], path: Path) -> None:
    """A panel for each case, a line for each way."""
    shown = [way for way in WAYS if any(way in rounds for rounds in found.values())]
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    size = (2.4 + 2.4 * columns, 0.9 + rows * (0.5 + 0.22 * len(shown)))
    figure, panels = pyplot.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (case, rounds) in zip(panels.flat, found.items(), strict=False):
        _draw_case(panel, case, rounds, shown)
    for panel in panels.flat[len(found) :]:
        panel.set_visible(False)
    figure.supxlabel(f"time of a step, {REFERENCE} = 1 (logarithmic)", fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_case(panel: Axes, case: str, rounds: Rounds, shown: list[str]) -> None:
    for height, way in enumerate(reversed(shown)):
        if way in rounds:
            low, median, high = summary(rounds[way])
            color = _color(way)
            panel.plot([low, high], [height, height], color=color, linewidth=2)
            panel.plot(median, height, "o", color=color, markersize=5)
    panel.axvline(1.0, color="0.6", linewidth=0.8, zorder=0)
    panel.set_xscale("log")
    _plain_ticks(panel)
    panel.set_yticks(range(len(shown)), list(reversed(shown)), fontsize=8)
    panel.set_title(case, fontsize=9)
    panel.grid(axis="x", color="0.92")


def draw_growth(found: Grown, path: Path) -> None:
    """A panel for each axis, a line for each way."""
    figure, panels = pyplot.subplots(1, len(AXES), figsize=(11.0, 3.8), layout="constrained")
    for panel, (name, axis) in zip(panels, AXES.items(), strict=True):
        for way, medians in lines(found[name], axis).items():
            panel.loglog(axis.sizes, medians, "o-", color=_color(way), markersize=3.5, label=way)
        panel.set_xticks(axis.sizes, [str(size) for size in axis.sizes])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set(xlabel=name, title=f"{REFERENCE} at {axis.base} = 1")
        panel.title.set_fontsize(9)
        panel.grid(color="0.92")
    panels[0].set_ylabel("time of a step")
    panels[0].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _plain_ticks(panel: Axes) -> None:
    low, high = panel.get_xlim()
    panel.set_xticks([tick for tick in TICKS if low <= tick <= high])
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(axis="x", labelsize=7)


def _color(way: str) -> str:
    """One colour for a library; this one's modes and the growing ways have their own."""
    if way.startswith(LIBRARY):
        return PALETTE[1 + next((n for n, mode in enumerate(("off", "trace", "inductor")) if mode in way), 0)]
    kinds = ("torch", "Pyro", "Pixyz", "NumPyro")
    return PALETTE[(0, 4, 5, 6)[next(n for n, kind in enumerate(kinds) if way.startswith(kind))]]
