r"""Information per latent dimension, and how many dimensions are used at all.

Convention of this module: information is in nats, averaged over rows. Each row's posterior in one
dimension is summarised by its mean and variance (by its frequencies when discrete), so the numbers
are exact, up to Monte Carlo error, for Gaussian guides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from arviz import InferenceData
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from ppl_genmodels.diagnostics.latents import data_plate, dim_labels, is_discrete, local_draws
from ppl_genmodels.diagnostics.style import MUTED, PALETTE, legend_beside, new_axes, styled
from ppl_genmodels.errors import DataError

__all__ = ["ACTIVE", "describe_information", "latent_information", "plot_information"]

ACTIVE = 0.01
"""Variance of posterior means above which a dimension is active (Burda et al., 2016)."""

Values = NDArray[np.float64]


def latent_information(
    idata: InferenceData,
    prior: Mapping[str, ArrayLike] | None = None,
    sites: Iterable[str] | None = None,
) -> pd.DataFrame:
    r"""What each dimension of the local latents tells about its row.

    With ``prior``, the divergence :math:`E_x \mathrm{KL}[q(z_d|x) \| p(z_d)]` of the posterior from
    the prior; without, the mutual information :math:`I(z_d; x)`, the same divergence from the
    average posterior :math:`E_x q(z_d|x)`, which never exceeds it.

    Args:
        idata: A posterior with local variables.
        prior: For each site draws from its prior, shape (n, \*event), as ``Fitted.sample`` gives.
        sites: The variables wanted; all local ones when None.

    Returns:
        One row per dimension: ``site``, ``dim`` (a label), ``information`` (nats), its
        ``standard_error`` over rows, ``variance_of_mean`` (of the posterior mean, over rows) and
        ``active``, whether that exceeds 0.01.

    Raises:
        DataError: When there is no local variable, or fewer than two draws.
        UnknownNameError: When a wanted variable is not a local one of the posterior.

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, ICLR.
        Hoffman and Johnson (2016), ELBO surgery, NIPS workshop on approximate inference.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> latent_information(example_posterior())["active"].tolist()
        [True, True, False]
    """
    tables = []
    for name, draws in local_draws(idata, sites).items():
        if len(draws) < 2:
            raise DataError(f"information of '{name}': needs 2 draws or more, got {len(draws)}.")
        reference = None if prior is None or name not in prior else _flat(prior[name])
        labels = dim_labels(idata.posterior[name], data_plate(idata))
        tables.append(_table(name, labels, draws, reference))
    if not tables:
        raise DataError("information: the posterior has no variable for each row of the data.")
    return pd.concat(tables, ignore_index=True)


def _flat(prior: ArrayLike) -> NDArray[Any]:
    values = np.asarray(prior)
    return values.reshape(len(values), -1)


def _table(name: str, labels: list[str], draws: NDArray[Any], prior: NDArray[Any] | None) -> pd.DataFrame:
    rows = draws.shape[1]
    divergence = _discrete if is_discrete(draws) else _gaussian
    information = divergence(draws, prior)
    means = draws.mean(0, dtype=np.float64)
    noise = draws.var(0, ddof=1, dtype=np.float64).mean(0) / len(draws)
    variance = np.maximum(means.var(0, ddof=min(1, rows - 1)) - noise, 0.0)
    with np.errstate(invalid="ignore"):
        error = information.std(0, ddof=min(1, rows - 1)) / np.sqrt(rows)
    return pd.DataFrame(
        {
            "site": name,
            "dim": labels,
            "information": information.mean(0),
            "standard_error": error,
            "variance_of_mean": variance,
            "active": variance > ACTIVE,
        }
    )


def _gaussian(draws: NDArray[Any], prior: NDArray[Any] | None) -> Values:
    """KL between Gaussians of the rows' moments and of the prior's, shape (row, dim), unbiased."""
    count = len(draws)
    mean = draws.mean(0, dtype=np.float64)
    variance = draws.var(0, ddof=1, dtype=np.float64)
    if prior is None:
        centre = mean.mean(0)
        spread = variance.mean(0) * (1 - 1 / count) + mean.var(0)
    else:
        centre, spread = prior.mean(0, dtype=np.float64), prior.var(0, dtype=np.float64)
    variance = np.where(draws.max(0) == draws.min(0), 0.0, variance)
    squared = variance + (mean - centre) ** 2 - variance / count
    bias = digamma((count - 1) / 2) - np.log((count - 1) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 0.5 * (squared / spread - 1 - np.log(variance / spread) + bias)
    return np.where(draws.max((0, 1)) == draws.min((0, 1)), 0.0, value)


def _discrete(draws: NDArray[Any], prior: NDArray[Any] | None) -> Values:
    """KL between the rows' frequencies and the prior's, (row, dim), Miller-Madow corrected."""
    seen = draws if prior is None else np.concatenate([draws.reshape(-1, draws.shape[-1]), prior])
    values = np.unique(seen)
    frequency = np.stack([(draws == value).mean(0) for value in values])
    if prior is None:
        reference = frequency.mean(1, keepdims=True)
    else:
        reference = np.stack([(prior == value).mean(0) for value in values])[:, None]
        reference = np.maximum(reference, 0.5 / len(prior))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(frequency > 0, frequency * np.log(frequency / reference), 0.0)
    bias = ((frequency > 0).sum(0) - 1) / (2 * len(draws))
    return np.asarray(np.maximum(terms.sum(0) - bias, 0.0))


@styled
def plot_information(
    idata: InferenceData,
    prior: Mapping[str, ArrayLike] | None = None,
    sites: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Bars of the information per dimension, largest first, active ones coloured.

    Arguments and errors are those of :func:`latent_information`; ``ax`` is where to draw.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> from matplotlib.figure import Figure
        >>> ax = plot_information(example_posterior(), ax=Figure().subplots())
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['active (2)', 'unused (1)']
    """
    table = latent_information(idata, prior, sites).sort_values("information", ascending=False, ignore_index=True)
    finite = table["information"].replace(np.inf, np.nan)
    height = finite.fillna(1.1 * max(finite.max(), 1.0)).to_numpy()
    width = min(10.0, max(5.0, 0.45 * len(table) + 2))
    axes: Axes = new_axes(size=(width, 3.8)) if ax is None else ax
    place, active = np.arange(len(table)), table["active"].to_numpy(bool)
    for chosen, colour, label in ((active, PALETTE[0], "active"), (~active, MUTED, "unused")):
        if chosen.any():
            axes.bar(place[chosen], height[chosen], color=colour, label=f"{label} ({chosen.sum()})")
    axes.errorbar(place, height, table["standard_error"].fillna(0), fmt="none", color="#374151", lw=1)
    _tick(axes, table)
    reference = "the prior" if prior is not None else "the average posterior"
    axes.set(ylabel="information (nats)", title=f"Divergence from {reference} per latent dimension")
    legend_beside(axes)
    return axes


def _tick(axes: Axes, table: pd.DataFrame) -> None:
    axes.grid(axis="x", visible=False)
    axes.set_xlim(-1, max(len(table), 3))
    if len(table) <= 40:
        crowded = len(table) > 10
        axes.set_xticks(range(len(table)), table["dim"].tolist(), rotation=90 if crowded else 0, fontsize=9)
    else:
        axes.set_xlabel("latent dimension, most informative first")


def describe_information(
    idata: InferenceData,
    prior: Mapping[str, ArrayLike] | None = None,
    sites: Iterable[str] | None = None,
) -> str:
    """A sentence with the count of active dimensions and the information that they carry.

    Arguments and errors are those of :func:`latent_information`.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> describe_information(example_posterior()).split(". ")[0]
        '2 of 3 latent dimensions are active'
    """
    table = latent_information(idata, prior, sites)
    active = int(table["active"].sum())
    total = table["information"].sum()
    top = table.iloc[int(table["information"].to_numpy().argmax())]
    return (
        f"{active} of {len(table)} latent dimensions are active. Together the dimensions carry "
        f"{total:.1f} nats per row; the most informative is {top['dim']} "
        f"with {top['information']:.2f} nats."
    )
