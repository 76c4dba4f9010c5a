"""The latent space as a picture: where each row's posterior mean lies.

Convention of this module: of many latent dimensions the two with the largest information are drawn;
of one, its histogram; of discrete latents only, how often each category is the most probable one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from arviz import InferenceData
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from ppl_genmodels.diagnostics.information import latent_information
from ppl_genmodels.diagnostics.labels import as_categories, checked_labels, scatter_labelled
from ppl_genmodels.diagnostics.latents import is_discrete, local_draws, posterior_means
from ppl_genmodels.diagnostics.observations import MOST_POINTS, spread_index
from ppl_genmodels.diagnostics.style import PALETTE, legend_beside, new_axes, styled
from ppl_genmodels.errors import DataError

__all__ = ["describe_latent_map", "plot_latent_map"]

NEIGHBOURS = 5


@styled
def plot_latent_map(
    idata: InferenceData,
    labels: ArrayLike | None = None,
    sites: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Posterior means in the two most informative dimensions, coloured by label.

    Args:
        idata: A posterior with local variables.
        labels: One for each row: categories (text, whole numbers) or a scale.
        sites: The variables wanted; all local ones when None.
        ax: Where to draw.

    Raises:
        DataError: When there is no local variable, or not one label for each row.
        UnknownNameError: When a wanted variable is not a local one of the posterior.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> from matplotlib.figure import Figure
        >>> ax = plot_latent_map(example_posterior(), ax=Figure().subplots())
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('posterior mean of z[0]', 'posterior mean of z[1]')
    """
    wanted = None if sites is None else list(sites)
    means, names = posterior_means(idata, wanted)
    axes: Axes = new_axes(size=(6.8, 5.2)) if ax is None else ax
    if not names:
        return _draw_categories(axes, idata, labels, wanted)
    if len(names) == 1:
        _draw_line(axes, means[:, 0], names[0], labels)
        return axes
    first, second = _most_informative(idata, wanted, names)
    rows = spread_index(len(means), MOST_POINTS)
    chosen = None if labels is None else checked_labels(labels, len(means))[rows]
    scatter_labelled(axes, means[rows][:, [first, second]], chosen)
    axes.set(
        xlabel=f"posterior mean of {names[first]}",
        ylabel=f"posterior mean of {names[second]}",
        title="Latent map" + (": the two most informative dimensions" if len(names) > 2 else ""),
    )
    return axes


def describe_latent_map(
    idata: InferenceData, labels: ArrayLike | None = None, sites: Iterable[str] | None = None
) -> str:
    """How well a row's neighbours foretell its label, or how wide the map is.

    Arguments and errors are those of :func:`plot_latent_map`.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> describe_latent_map(example_posterior())
        'The means of 60 rows spread most along z[0], with a standard deviation of 0.91.'
    """
    wanted = None if sites is None else list(sites)
    means, names = posterior_means(idata, wanted)
    if not names:
        used, possible = _categories_used(idata, wanted)
        return f"{used} of {possible} sampled categories are the most probable one of some row."
    categories = as_categories(labels, len(means))
    if categories is not None:
        return _describe_neighbours(means, categories.codes)
    spread = means.std(0)
    widest = int(spread.argmax())
    return (
        f"The means of {len(means)} rows spread most along {names[widest]}, "
        f"with a standard deviation of {spread[widest]:.2f}."
    )


def _describe_neighbours(means: NDArray[np.float64], codes: NDArray[np.int64]) -> str:
    rows = spread_index(len(means), MOST_POINTS)
    counts = np.bincount(codes[rows])
    chance = counts.max() / len(rows)
    folds = int(min(5, counts[counts > 0].min()))
    if folds < 2 or len(counts[counts > 0]) < 2:
        return f"Too few rows of some label to measure how labels cluster ({len(rows)} rows)."
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(rows) // 2))
    found = cross_val_predict(neighbours, means[rows], codes[rows], cv=folds)
    right = float((found == codes[rows]).mean())
    return (
        f"The {neighbours.n_neighbors} nearest neighbours in all {means.shape[1]} latent "
        f"dimensions give {100 * right:.0f} % of the rows their right label; the most frequent "
        f"label alone would give {100 * chance:.0f} %."
    )


def _most_informative(idata: InferenceData, sites: list[str] | None, names: list[str]) -> tuple[int, int]:
    """Places of the two dimensions with the largest information, in their own order."""
    table = latent_information(idata, None, sites).set_index("dim")
    value = table.loc[names, "information"].to_numpy()
    first, second = sorted(np.argsort(-np.nan_to_num(value), kind="stable")[:2])
    return int(first), int(second)


def _draw_line(axes: Axes, means: NDArray[np.float64], name: str, labels: ArrayLike | None) -> None:
    categories = as_categories(labels, len(means))
    edges = np.histogram_bin_edges(means, bins=min(40, max(5, int(len(means) ** 0.5))))
    if categories is None:
        axes.hist(means, edges.tolist(), color=PALETTE[0])
    else:
        parts = [means[categories.codes == code] for code in range(len(categories.names))]
        axes.hist(
            parts,
            edges.tolist(),
            stacked=True,
            color=PALETTE[: len(parts)],
            label=list(categories.names),
        )
        legend_beside(axes, "label")
    axes.set(xlabel=f"posterior mean of {name}", ylabel="rows", title="Latent map")


def _most_probable(idata: InferenceData, sites: list[str] | None) -> tuple[str, NDArray[Any], NDArray[Any]]:
    """The first discrete variable, its values, and the place of each row's most frequent one."""
    for name, draws in local_draws(idata, sites).items():
        if is_discrete(draws):
            one_hot = draws.shape[-1] > 1 and bool((draws.sum(-1) == 1).all())
            drawn = draws.argmax(-1) if one_hot else draws[..., 0]
            values = np.unique(drawn)
            counts = np.stack([(drawn == value).sum(0) for value in values])
            return name, values, counts.argmax(0)
    raise DataError("latent map: the posterior has no variable for each row of the data.")


def _categories_used(idata: InferenceData, sites: list[str] | None) -> tuple[int, int]:
    _, values, chosen = _most_probable(idata, sites)
    return len(np.unique(chosen)), len(values)


def _draw_categories(axes: Axes, idata: InferenceData, labels: ArrayLike | None, sites: list[str] | None) -> Axes:
    name, values, chosen = _most_probable(idata, sites)
    categories = as_categories(labels, len(chosen))
    groups = np.zeros(len(chosen), int) if categories is None else categories.codes
    bottom = np.zeros(len(values))
    for code in range(groups.max() + 1):
        height = np.bincount(chosen[groups == code], minlength=len(values))
        label = None if categories is None else categories.names[code]
        axes.bar(range(len(values)), height, bottom=bottom, color=PALETTE[code], label=label)
        bottom += height
    if categories is not None:
        legend_beside(axes, "label")
    if len(values) <= 30:
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.grid(axis="x", visible=False)
    axes.set(xlabel=f"most probable value of {name}", ylabel="rows", title="Latent map")
    return axes
