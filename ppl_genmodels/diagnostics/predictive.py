"""Posterior-predictive check: data that the fitted program would make, against the data there are.

Convention of this module: predictive draws have the shape (draw, row, feature), observations
(row, feature); missing observations (NaN) are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from arviz import InferenceData
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.latents import data_plate, stacked
from ppl_genmodels.diagnostics.observations import spread_index
from ppl_genmodels.diagnostics.style import MUTED, PALETTE, new_axes, styled
from ppl_genmodels.errors import DataError, UnknownNameError

__all__ = ["describe_predictive", "observed_pair", "plot_predictive", "predictive_pair"]

MOST_REPLICATES = 50

Values = NDArray[np.float64]


def observed_pair(idata: InferenceData, site: str | None = None) -> tuple[str, Values]:
    """An observed site's name and its observations, shape (row, feature).

    Raises:
        UnknownNameError: When there are none for ``site``.
        DataError: When there are none at all.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> name, observed = observed_pair(example_posterior())
        >>> name, observed.shape
        ('x', (60, 4))
    """
    known = list(idata.observed_data) if "observed_data" in idata else []
    if not known:
        raise DataError("the posterior has no observed data.")
    if site is not None and site not in known:
        raise UnknownNameError("observed site", site, known, "in the observed data")
    name = str(site or known[0])
    observed = idata.observed_data[name].expand_dims(["chain", "draw"])
    return name, stacked(observed, data_plate(idata))[0].astype(np.float64)


def predictive_pair(idata: InferenceData, site: str | None = None) -> tuple[str, Values, Values]:
    """An observed site's name, its observations and its predictive draws.

    Raises:
        DataError: When there are no predictive draws.
        UnknownNameError: When there are none for ``site``.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> name, observed, predicted = predictive_pair(example_posterior())
        >>> observed.shape, predicted.shape
        ((60, 4), (200, 60, 4))
    """
    if "posterior_predictive" not in idata:
        raise DataError("predictive check: no predictive draws. Infer with predictive=True.")
    name, observed = observed_pair(idata, site)
    predicted = stacked(idata.posterior_predictive[name], data_plate(idata))
    return name, observed, predicted.astype(np.float64)


@styled
def plot_predictive(idata: InferenceData, site: str | None = None, ax: Axes | None = None) -> Axes:
    """One feature: distributions of data and replicates; more: each feature's mean and spread.

    Args:
        idata: A posterior with predictive draws and observed data.
        site: The observed site; the first when None.
        ax: Where to draw.

    Raises:
        DataError: When there are no predictive draws.
        UnknownNameError: When there are none for ``site``.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> from matplotlib.figure import Figure
        >>> ax = plot_predictive(example_posterior(), ax=Figure().subplots())
        >>> ax.get_xlabel()
        'in the data, per feature'
    """
    name, observed, predicted = predictive_pair(idata, site)
    single = observed.shape[1] == 1
    axes: Axes = new_axes(size=(6.4, 3.8) if single else (5.4, 4.8)) if ax is None else ax
    if single:
        _draw_distributions(axes, observed[:, 0], predicted[..., 0])
    else:
        _draw_moments(axes, observed, predicted)
    axes.set_title(f"{name}: posterior-predictive check")
    axes.legend(loc="lower right")
    return axes


def _draw_distributions(axes: Axes, observed: Values, predicted: Values) -> None:
    """Empirical distribution functions, which need no choice of bins or bandwidth."""
    seen = np.isfinite(observed)
    some = predicted[spread_index(len(predicted), MOST_REPLICATES)]
    style: dict[str, Any] = {"color": PALETTE[0], "alpha": 0.3, "linewidth": 0.8}
    for index, replicate in enumerate(some[:, seen]):
        _draw_steps(axes, replicate, label="replicates" if index == 0 else None, **style)
    _draw_steps(axes, observed[seen], label="data", color="#111827")
    axes.set(xlabel="value", ylabel="share of rows at or below")


def _draw_steps(axes: Axes, values: Values, **style: Any) -> None:
    ordered = np.sort(values)
    share = np.arange(len(values) + 1) / max(1, len(values))
    axes.step(np.concatenate([ordered[:1], ordered]), share, where="post", **style)


def _draw_moments(axes: Axes, observed: Values, predicted: Values) -> None:
    """Each feature's mean and standard deviation over rows, in the data and in replicates."""
    seen = np.isfinite(observed).any(0)
    observed, predicted = observed[:, seen], predicted[..., seen]
    moments = (("mean", np.nanmean, 0, "o"), ("standard deviation", np.nanstd, 1, "^"))
    ends = []
    for label, moment, number, marker in moments:
        data, model = moment(observed, 0), moment(predicted, (0, 1))
        style: dict[str, Any] = {
            "s": 14,
            "color": PALETTE[number],
            "marker": marker,
            "alpha": 0.7,
            "lw": 0,
        }
        axes.scatter(data, model, label=label, **style)
        ends += [data.min(), data.max(), model.min(), model.max()]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=MUTED, zorder=0, label="equal")
    axes.set(xlabel="in the data, per feature", ylabel="in replicated data, per feature")


def describe_predictive(idata: InferenceData, site: str | None = None) -> str:
    """Mean and standard deviation of the data among those of replicated data.

    Raises:
        DataError: When there are no predictive draws.
        UnknownNameError: When there are none for ``site``.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> describe_predictive(example_posterior()).split(";")[0]
        "The data's mean -0.1773 is inside the 95 % interval of replicates, -0.332 to -0.03388"
    """
    _, observed, predicted = predictive_pair(idata, site)
    missing = np.isnan(observed)
    replicated = np.where(missing, np.nan, predicted)
    parts = []
    for label, moment in (("mean", np.nanmean), ("standard deviation", np.nanstd)):
        value, replicates = float(moment(observed)), moment(replicated, (1, 2))
        low, high = np.quantile(replicates, [0.025, 0.975])
        word = "inside" if low <= value <= high else "outside"
        parts.append(
            f"the data's {label} {value:.4g} is {word} the 95 % interval of replicates, {low:.4g} to {high:.4g}"
        )
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."
