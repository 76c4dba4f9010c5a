"""k-hat per row: whether the guide can be relied on, and for which rows.

Convention of this module: k-hat is read from ``sample_stats`` where
:func:`~ppl_genmodels.diagnostics.bridge.to_inference_data` wrote it; one number stands for a
posterior with global latents.
"""

from __future__ import annotations

import numpy as np
from arviz import InferenceData
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.psis import FEWEST_DRAWS, RELIABLE
from ppl_genmodels.diagnostics.style import PALETTE, legend_beside, new_axes, styled
from ppl_genmodels.errors import DataError

__all__ = ["describe_khat", "k_hat", "plot_khat"]

ROWS_APART = 100
"""Up to so many rows are drawn one by one; more as a histogram."""

HIGHEST = 2.0
"""Larger values, infinity among them, are drawn at this height."""

BANDS = ((-np.inf, 0.5, "good", PALETTE[0]), (0.5, RELIABLE, "usable", PALETTE[3]),
         (RELIABLE, np.inf, "unreliable", PALETTE[5]))  # fmt: skip


def k_hat(idata: InferenceData) -> NDArray[np.float64]:
    """k-hat of each row, flattened; one value for a posterior with global latents.

    Raises:
        DataError: When the posterior has none, or it could not be estimated for any row.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> k_hat(example_posterior()).shape
        (60,)
    """
    if "sample_stats" not in idata or "k_hat" not in idata.sample_stats:
        raise DataError("k-hat: the posterior has no importance weights. Infer with a guide.")
    values = np.atleast_1d(idata.sample_stats["k_hat"].values).ravel()
    if np.isnan(values).all():
        raise DataError(f"k-hat: not estimated. Infer with {FEWEST_DRAWS} draws or more.")
    return np.asarray(values, float)


@styled
def plot_khat(idata: InferenceData, ax: Axes | None = None) -> Axes:
    """k-hat of each row as points, or as a histogram when there are more than 100 rows.

    Raises:
        DataError: When the posterior has no k-hat.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> from matplotlib.figure import Figure
        >>> ax = plot_khat(example_posterior(), ax=Figure().subplots())
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('row', 'k-hat')
    """
    values = np.clip(k_hat(idata), None, HIGHEST)
    axes: Axes = new_axes(size=(7.0, 3.6)) if ax is None else ax
    if len(values) > ROWS_APART:
        _draw_histogram(axes, values[np.isfinite(values)])
    else:
        _draw_rows(axes, values)
    axes.set_title("k-hat: how far the guide is from the posterior")
    legend_beside(axes)
    return axes


def _draw_rows(axes: Axes, values: NDArray[np.float64]) -> None:
    for low, high, label, colour in BANDS:
        chosen = np.flatnonzero((values > low) & (values <= high))
        axes.scatter(chosen, values[chosen], s=24, color=colour, label=f"{label} ({len(chosen)})")
    for _, height, *_ in BANDS[:-1]:
        axes.axhline(height, color="#374151", linewidth=1, linestyle="--")
    axes.set(xlabel="row", ylabel="k-hat", ylim=(min(-0.3, values.min() - 0.1), None))
    if len(values) == 1:
        axes.set(xticks=[], xlabel="whole posterior", xlim=(-1, 1))
    axes.set_ylim(top=max(1.0, float(np.nanmax(values)) + 0.1))


def _draw_histogram(axes: Axes, values: NDArray[np.float64]) -> None:
    edges = np.arange(np.floor(values.min() * 20) / 20, values.max() + 0.1, 0.05)
    for low, high, label, colour in BANDS:
        chosen = values[(values > low) & (values <= high)]
        axes.hist(chosen, edges.tolist(), color=colour, label=f"{label} ({len(chosen)})")
    for _, height, *_ in BANDS[:-1]:
        axes.axvline(height, color="#374151", linewidth=1, linestyle="--")
    note = f" (larger ones at {HIGHEST:g})" if values.max() >= HIGHEST else ""
    axes.set(xlabel=f"k-hat{note}", ylabel="rows")


def describe_khat(idata: InferenceData) -> str:
    """The share of rows that can be relied on, the median and the worst row.

    Raises:
        DataError: When the posterior has no k-hat.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> describe_khat(example_posterior()).split(";")[0]
        'k-hat is below 0.7 for 98 % of rows'
    """
    values = k_hat(idata)
    if len(values) == 1:
        word = "below" if values[0] < RELIABLE else "not below"
        advice = "can" if values[0] < RELIABLE else "cannot"
        return f"k-hat is {values[0]:.2f}, {word} {RELIABLE}: estimates {advice} be corrected by importance weighting."
    seen = values[~np.isnan(values)]
    good = 100 * float((seen < RELIABLE).mean())
    worst = int(np.nanargmax(values))
    return (
        f"k-hat is below {RELIABLE} for {good:.0f} % of rows; its median is {np.median(seen):.2f}, "
        f"its largest value {values[worst]:.2f} at row {worst}."
    )
