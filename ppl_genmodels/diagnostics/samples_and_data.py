"""Draws beside data, column against column: how well a program tells the rows of a table.

Convention of this module: a row is a vector, whose columns are named by a frame or by the site and their number. Of
many columns those are drawn whose marginals differ most, in their own order. Rows with missing values are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp

from ppl_genmodels.diagnostics.fitted_like import FittedLike, observed_site, site_values, to_array
from ppl_genmodels.diagnostics.observations import spread_index
from ppl_genmodels.diagnostics.style import PALETTE, new_axes, styled
from ppl_genmodels.errors import DataError, UnknownNameError

__all__ = ["describe_samples_and_data", "plot_samples_and_data"]

MOST_COLUMNS = 5
MOST_DRAWN = 4000
MOST_DOTS = 600
LABEL = 16
"""Letters in a line of a name."""

DATA, SAMPLES = PALETTE[1], PALETTE[0]

Values = NDArray[np.float64]


@styled
def plot_samples_and_data(
    fitted: FittedLike,
    data: ArrayLike,
    columns: Sequence[str | int] | None = None,
    *,
    site: str | None = None,
    seed: int | None = 0,
    samples: ArrayLike | None = None,
    axes: Any = None,
) -> NDArray[Any]:
    """Pairs of columns of samples and data as points, and each column's histograms on the diagonal.

    Args:
        fitted: What was fitted.
        data: Observations of the same site, shape (row, column); a frame gives its columns' names.
        columns: Which columns, by name or number; by default all, or of more than five those whose marginals differ
            most.
        site: The observed site; the first when None.
        seed: Seed of the draws.
        samples: Draws made before, shape (n, column), to use these instead.
        axes: Shape (column, column); new ones when None.

    Returns:
        The axes, shape (column, column), those above the diagonal empty.

    Raises:
        UnknownNameError: When there is no such site or column.
        DataError: When the site's values are no vectors, or the data have other columns.
        ProgramError: When the program cannot run without data.

    Example:
        >>> import torch, ppl_genmodels as ppl
        >>> from matplotlib.figure import Figure
        >>> x = torch.randn(64, 3)
        >>> fitted = ppl.fit(ppl.models.SplineFlow(3, layers=1, hidden=(8,)), x, steps=5, progress=False)
        >>> axes = plot_samples_and_data(fitted, x, columns=["x[0]", "x[2]"], axes=Figure().subplots(2, 2))
        >>> axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel()
        ('x[0]', 'x[2]')
    """
    seen, drawn, names = _columns(fitted, data, site, seed, samples)
    chosen = _worst(seen, drawn) if columns is None else [_number(column, names) for column in columns]
    count = len(chosen)
    panels: NDArray[Any] = new_axes(count, count, (1.9 * count + 1.2, 1.8 * count + 0.8)) if axes is None else axes
    panels = np.reshape(np.asarray(panels), (count, count))
    for (down, across), panel in np.ndenumerate(panels):
        if across > down:
            panel.set_axis_off()
        elif across == down:
            _histograms(panel, seen[:, chosen[down]], drawn[:, chosen[down]])
        else:
            _dots(panel, seen[:, [chosen[across], chosen[down]]], drawn[:, [chosen[across], chosen[down]]])
    _label(panels, [names[number] for number in chosen])
    return panels


def describe_samples_and_data(
    fitted: FittedLike,
    data: ArrayLike,
    *,
    site: str | None = None,
    seed: int | None = 0,
    samples: ArrayLike | None = None,
) -> str:
    """The column whose marginal differs most, by the Kolmogorov-Smirnov distance, and the pair whose correlation does.

    The distance is the largest difference of the two distribution functions, between 0 and 1; draws from the data's own
    distribution exceed the distance that is named beside it in one of twenty columns.

    Args:
        fitted: What was fitted.
        data: Observations, shape (row, column).
        site: The observed site; the first when None.
        seed: Seed of the draws.
        samples: Draws made before, shape (n, column).

    Raises:
        UnknownNameError: When there is no such site.
        DataError: When the site's values are no vectors, or the data have other columns.
        ProgramError: When the program cannot run without data.

    Example:
        >>> class Fitted:
        ...     from ppl_genmodels.structure import Site, Structure
        ...     import torch
        ...     shapes = torch.Size([]), torch.Size([2])
        ...     structure = Structure((Site("x", "observed", "Normal", ("data",), *shapes, False),), (), "data", 1)
        >>> grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2)
        >>> describe_samples_and_data(Fitted(), grid, samples=grid + [0.0, 3.0]).split(".")[0]
        'The marginal that differs most is that of x[1], by a Kolmogorov-Smirnov distance of 0'
    """
    seen, drawn, names = _columns(fitted, data, site, seed, samples)
    distances = _distances(seen, drawn)
    worst = int(distances.argmax())
    usual = 1.36 * np.sqrt(1 / len(seen) + 1 / len(drawn))
    sentence = (
        f"The marginal that differs most is that of {names[worst]}, by a Kolmogorov-Smirnov distance of "
        f"{distances[worst]:.2f}; {int((distances > usual).sum())} of {len(names)} exceed {usual:.2f}, as one in "
        f"twenty would by chance."
    )
    return f"{sentence} {_of_correlations(seen, drawn, names)}".strip()


def _of_correlations(seen: Values, drawn: Values, names: list[str]) -> str:
    varies = np.flatnonzero((np.ptp(seen, 0) > 0) & (np.ptp(drawn, 0) > 0))
    if len(varies) < 2:
        return ""
    of_data, of_samples = (np.atleast_2d(np.corrcoef(each[:, varies].T)) for each in (seen, drawn))
    first, second = np.unravel_index(np.abs(of_data - of_samples).argmax(), of_data.shape)
    return (
        f"The correlation that differs most is that of {names[varies[first]]} and {names[varies[second]]}: "
        f"{of_samples[first, second]:.2f} in samples, {of_data[first, second]:.2f} in data."
    )


def _columns(
    fitted: FittedLike, data: ArrayLike, site: str | None, seed: int | None, samples: ArrayLike | None
) -> tuple[Values, Values, list[str]]:
    """Complete rows of the data, of samples, and the columns' names."""
    name = observed_site(fitted, site)
    seen = to_array(data).astype(np.float64)
    shape = tuple(fitted.structure.site(name).event_shape)
    if len(shape) != 1 or seen.ndim != 2 or seen.shape[1:] != shape:
        raise DataError(
            f"samples and data: site '{name}' has the event shape {shape} and the data the shape {seen.shape}, "
            f"expected vectors and rows of them. Remedy: plot_samples draws other shapes."
        )
    if samples is None:
        samples = site_values(fitted, name, fitted.sample(MOST_DRAWN, seed=seed)[name])
    drawn = to_array(samples).astype(np.float64).reshape(-1, *shape)
    labels = getattr(data, "columns", None)
    names = [f"{name}[{number}]" for number in range(shape[0])] if labels is None else [str(each) for each in labels]
    return _complete(seen, "data"), _complete(drawn, "samples"), names


def _complete(values: Values, what: str) -> Values:
    complete = values[np.isfinite(values).all(-1)]
    if not len(complete):
        raise DataError(f"samples and data: the {what} have no row without missing values.")
    return complete


def _distances(seen: Values, drawn: Values) -> Values:
    """The Kolmogorov-Smirnov distance of each column's marginals."""
    return np.array([ks_2samp(a, b, method="asymp").statistic for a, b in zip(seen.T, drawn.T, strict=True)])


def _worst(seen: Values, drawn: Values) -> list[int]:
    """The columns to draw: all of few, otherwise those that differ most, in their order."""
    order = np.argsort(-_distances(seen, drawn), kind="stable")[:MOST_COLUMNS]
    return sorted(map(int, order))


def _number(column: str | int, names: list[str]) -> int:
    if column in names:
        return names.index(str(column))
    if isinstance(column, int) and 0 <= column < len(names):
        return column
    raise UnknownNameError("column", str(column), names)


def _histograms(panel: Axes, seen: Values, drawn: Values) -> None:
    low, high = _range(seen)
    edges = np.linspace(low, high, min(30, max(8, int(2 * len(seen) ** 0.4))) + 1).tolist()
    panel.hist(seen, edges, density=True, color=DATA, alpha=0.45, label="data")
    panel.hist(drawn, edges, density=True, color=SAMPLES, histtype="step", linewidth=1.6, label="samples")
    panel.set(yticks=[], xlim=(low, high))


def _dots(panel: Axes, seen: Values, drawn: Values) -> None:
    for values, colour in ((seen, DATA), (drawn[: max(len(seen), 200)], SAMPLES)):
        some = values[spread_index(len(values), MOST_DOTS)]
        panel.scatter(some[:, 0], some[:, 1], s=7, color=colour, alpha=0.5, linewidths=0)
    panel.set(xlim=_range(seen[:, 0]), ylim=_range(seen[:, 1]))


def _range(values: Values) -> tuple[float, float]:
    """Where the data lie, and some more; the few samples far away are not shown."""
    low, high = values.min(), values.max()
    margin = 0.15 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _label(panels: NDArray[Any], names: list[str]) -> None:
    """Names and numbers at the left and lower edge alone, and a legend in the empty place beside the first."""
    last = len(names) - 1
    for (down, across), panel in np.ndenumerate(panels):
        panel.tick_params(labelsize=8, labelbottom=down == last, labelleft=across == 0 and down > 0)
        panel.grid(visible=False)
    for number, name in enumerate(names):
        label = fill(name.replace("_", " "), LABEL)
        panels[last, number].set_xlabel(label, fontsize=9)
        panels[number, 0].set_ylabel(label, fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    panels[0, min(1, last)].legend(handles, labels, loc="center left" if last else "upper right")
    panels[0, 0].set_title("samples and data", loc="left")
