"""How the pictures look: one palette, one set of sizes, and where a new figure comes from.

Convention of this module: a plot function that is given no axes makes a figure of pyplot's, so that
it is shown in a notebook as ArviZ's are; inside :func:`plain_figures` it makes a figure that pyplot
knows nothing of, which needs no display and is collected with its axes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
from cycler import cycler
from matplotlib import MatplotlibDeprecationWarning, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["PALETTE", "legend_beside", "new_axes", "new_figure", "plain_figures", "save_figure", "styled"]

PALETTE = (
    "#3f90da",
    "#e76300",
    "#832db6",
    "#ffa90e",
    "#717581",
    "#bd1f01",
    "#92dadd",
    "#a96b59",
    "#b9ac70",
    "#94a4a2",
)
"""Ten colours that every common colour vision tells apart (Petroff, 2021, arXiv:2107.02270)."""

MUTED = "#b5b9c2"
"""Colour of what stands in the background."""

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#6b7280",
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "image.cmap": "gray",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}

RESOLUTION = 110
"""Of pictures in files, in dots per inch."""

_PLAIN: ContextVar[bool] = ContextVar("plain_figures", default=False)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@contextmanager
def plain_figures() -> Iterator[None]:
    """Within it, plot functions make figures that pyplot does not manage, for files and servers.

    Example:
        >>> with plain_figures():
        ...     axes = new_axes()
        >>> pyplot.get_fignums()
        []
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def styled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Gives what ``function`` draws the common style; matplotlib's settings stay as they were.

    Example:
        >>> styled(lambda: matplotlib.rcParams["axes.spines.top"])()
        False
    """

    @wraps(function)
    def draw(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def new_axes(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.0)) -> Any:
    """Axes of a new figure, shape (rows, columns), or the single one; ``size`` in inches.

    Example:
        >>> with plain_figures():
        ...     new_axes(2, 3).shape
        (2, 3)
    """
    return new_figure(size).subplots(rows, columns)


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure, ``size`` in inches; pyplot's unless within :func:`plain_figures`.

    Example:
        >>> with plain_figures():
        ...     new_figure((3.0, 2.0)).get_size_inches().tolist()
        [3.0, 2.0]
    """
    make = Figure if _PLAIN.get() else pyplot.figure
    return make(figsize=size, layout="constrained")


def legend_beside(axes: Axes, title: str | None = None) -> None:
    """A legend to the right of the axes, where it hides nothing."""
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title, markerscale=1.6)
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1.0)


def save_figure(axes: Axes, path: str | os.PathLike[str]) -> None:
    """Writes the whole figure that ``axes`` belong to as a PNG."""
    figure: Any = axes.figure
    figure.savefig(path, dpi=RESOLUTION, format="png", bbox_inches="tight", pad_inches=0.12)


@contextmanager
def quiet_arviz() -> Iterator[None]:
    """ArviZ 0.23 calls what matplotlib 3.11 deprecates; users can do nothing about either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MatplotlibDeprecationWarning)
        yield
