"""Data beside what the program makes of them: encoded by the guide and decoded again.

Convention of this module: a reconstruction is the mean of the observed site's distribution at the
guide's mean latents; missing values (NaN) are left out of every number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics.fitted_like import (
    FittedLike,
    image_shape_of,
    observed_site,
    site_values,
    to_array,
)
from ppl_genmodels.diagnostics.images import as_images, event_shape, gray_limits, show_images
from ppl_genmodels.diagnostics.observations import MOST_POINTS, flat_rows, spread_index
from ppl_genmodels.diagnostics.style import PALETTE, new_axes, styled

__all__ = ["describe_reconstructions", "plot_reconstructions"]

COLUMNS = 12


@styled
def plot_reconstructions(
    fitted: FittedLike,
    data: Any,
    n: int = 36,
    *,
    site: str | None = None,
    image_shape: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Rows of data with their reconstructions underneath, or each value against its own.

    Args:
        fitted: What was fitted.
        data: An array, or a dict of arrays, rows first.
        n: How many rows, evenly spread over the data.
        site: The observed site; the first when None.
        image_shape: (height, width) or (channels, height, width), where that cannot be told.
        ax: Where to draw.

    Raises:
        UnknownNameError: When there is no such observed site.
        DataError: When ``image_shape`` does not fit, or ``data`` lacks the site.

    Example:
        >>> import torch, ppl_genmodels as ppl
        >>> from matplotlib.figure import Figure
        >>> program = ppl.models.VAE(data_dim=36, latent_dim=2, hidden=(8,))
        >>> x = torch.rand(64, 36).round()
        >>> fitted = ppl.fit(program, x, steps=20, progress=False)
        >>> ax = plot_reconstructions(fitted, x, ax=Figure().subplots())
        >>> ax.get_title()
        'x: data and reconstructions'
    """
    name, rows = observed_site(fitted, site), Rows.of(data)
    shape = image_shape or image_shape_of(fitted.program)
    shape = shape or event_shape(np.empty((0, *fitted.structure.site(name).event_shape)))
    some = _some_rows(fitted, rows, n if shape else MOST_POINTS)
    seen = site_values(fitted, name, fitted.infer(some, 1).observed_data[name].values)
    made = site_values(fitted, name, fitted.reconstruct(some)[name])
    if shape is None:
        return _draw_values(seen, made, name, ax)
    return _draw_images(as_images(seen[:n], shape), as_images(made[:n], shape), name, ax)


def _some_rows(fitted: FittedLike, rows: Rows, most: int) -> Rows:
    """Some rows, or all where they share latents and so cannot be taken apart."""
    structure = fitted.structure
    if structure.has_globals or len(rows) <= most:
        return rows
    return rows.subset(spread_index(len(rows), most).tolist())


def _draw_images(above: NDArray[Any], below: NDArray[Any], name: str, ax: Axes | None) -> Axes:
    columns = min(COLUMNS, len(above))
    strips = -(-len(above) // columns)
    pairs = np.full((strips, 2, columns, *above.shape[1:]), np.nan)
    for strip in range(strips):
        part = slice(strip * columns, (strip + 1) * columns)
        pairs[strip, 0, : len(above[part])] = above[part]
        pairs[strip, 1, : len(below[part])] = below[part]
    height, width = above.shape[1:3]
    size = (8.0, 0.5 + 8.0 * 2 * strips * height / (columns * width))
    axes: Axes = new_axes(size=size) if ax is None else ax
    show_images(axes, pairs.reshape(-1, *above.shape[1:]), columns, gray_limits(above))
    middle = (np.arange(2 * strips) + 0.5) * (height + 1) - 1
    axes.set_yticks(middle, ["data", "model"] * strips, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{name}: data and reconstructions")
    return axes


def _draw_values(seen: NDArray[Any], made: NDArray[Any], name: str, ax: Axes | None) -> Axes:
    axes: Axes = new_axes(size=(5.0, 4.6)) if ax is None else ax
    x, y = flat_rows(seen).ravel(), flat_rows(made).ravel()
    x, y = x[np.isfinite(x)], y[np.isfinite(x)]
    some = spread_index(len(x), 2 * MOST_POINTS)
    size = float(np.clip(4000 / max(1, len(some)), 6, 30))
    axes.scatter(x[some], y[some], s=size, alpha=0.5, linewidths=0, color=PALETTE[0])
    if len(x):
        axes.axline((x.mean(), x.mean()), slope=1, color="#374151", lw=1, label="equal")
        axes.legend(loc="upper left")
    axes.set(
        xlabel="observed value",
        ylabel="reconstructed value",
        title=f"{name}: data and reconstructions",
    )
    return axes


def describe_reconstructions(seen: ArrayLike, made: ArrayLike) -> str:
    r"""The error of reconstructions and the share of the data's variance that they explain.

    Args:
        seen: Observations, shape (row, \*event).
        made: Reconstructions of the same shape.

    Example:
        >>> describe_reconstructions([[0.0], [2.0]], [[0.0], [1.0]])
        'The root mean square error is 0.707; 50 % of the variance of the data is explained.'
    """
    x, y = flat_rows(to_array(seen)), flat_rows(to_array(made))
    error = float(np.nanmean((x - y) ** 2))
    total = float(np.nanmean((x - np.nanmean(x, 0)) ** 2))
    explained = 1 - error / total if total > 0 else float("nan")
    share = f"{100 * explained:.0f} % of the variance of the data is explained"
    if not explained > 0:
        share = "the data's mean alone would come as near"
    return f"The root mean square error is {error**0.5:.3g}; {share}."
