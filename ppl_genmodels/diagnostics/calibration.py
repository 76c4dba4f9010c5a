"""Calibration: whether observations fall into predictive intervals as often as they should.

Convention of this module: an observation's place is its randomised rank among its predictive draws,
between 0 and 1, uniform when the predictive distribution is right.
"""

from __future__ import annotations

import numpy as np
from arviz import InferenceData
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_genmodels.diagnostics.observations import flat_rows
from ppl_genmodels.diagnostics.predictive import observed_pair, predictive_pair
from ppl_genmodels.diagnostics.style import MUTED, PALETTE, new_axes, styled

__all__ = ["coverage", "describe_calibration", "plot_calibration", "predictive_rank"]

LEVELS = np.linspace(0.05, 0.95, 19)
MOST_VALUES = 20_000


def predictive_rank(
    idata: InferenceData,
    site: str | None = None,
    samples: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    r"""Randomised rank of observations among draws of the same feature, in (0, 1).

    Replicates of a row with latents of its own have seen that row, and lie around it more closely
    than a calibrated prediction would; give ``samples`` for such programs.

    Args:
        idata: Observed data, and posterior-predictive draws unless ``samples`` are given.
        site: The observed site; the first when None.
        samples: Draws from the program run without data, shape (n, \*event).
        seed: Decides ties, and which values are ranked where there are more than 20 000.

    Raises:
        DataError: When there are no predictive draws.
        UnknownNameError: When there are none for ``site``.

    References:
        Czado, Gneiting and Held (2009), Predictive model assessment for count data, Biometrics.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> rank = predictive_rank(example_posterior())
        >>> rank.shape, bool((0 < rank).all() and (rank < 1).all())
        ((240,), True)
    """
    observed, draws = _compared(idata, site, samples)
    generator = np.random.default_rng(seed)
    seen = np.flatnonzero(np.isfinite(observed.ravel()))
    if len(seen) > MOST_VALUES:
        seen = generator.choice(seen, MOST_VALUES, replace=False)
    row, feature = np.unravel_index(seen, observed.shape)
    value, drawn = observed[row, feature], draws[:, row % draws.shape[1], feature]
    below, equal = (drawn < value).sum(0), (drawn == value).sum(0)
    return np.asarray((below + generator.uniform(size=len(seen)) * (equal + 1)) / (len(draws) + 1))


def _compared(
    idata: InferenceData, site: str | None, samples: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Observations, shape (row, feature), and draws, shape (draw, row or 1, feature)."""
    if samples is None:
        _, observed, predicted = predictive_pair(idata, site)
        return observed, predicted
    return observed_pair(idata, site)[1], flat_rows(samples)[:, None]


def coverage(rank: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of ranks inside each central interval.

    Example:
        >>> coverage(np.array([0.1, 0.5, 0.6, 0.9]), np.array([0.5, 0.9]))
        array([0.5, 1. ])
    """
    return np.asarray((2 * np.abs(rank - 0.5)[:, None] <= levels).mean(0))


@styled
def plot_calibration(
    idata: InferenceData,
    site: str | None = None,
    samples: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of observations inside central predictive intervals, against their probability.

    The band holds two standard errors. Arguments and errors are those of :func:`predictive_rank`;
    ``ax`` is where to draw.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> from matplotlib.figure import Figure
        >>> ax = plot_calibration(example_posterior(), ax=Figure().subplots())
        >>> ax.get_ylabel()
        'share of observations inside'
    """
    rank = predictive_rank(idata, site, samples)
    axes: Axes = new_axes(size=(5.2, 4.4)) if ax is None else ax
    error = 2 * np.sqrt(LEVELS * (1 - LEVELS) / max(1, len(rank)))
    axes.fill_between(LEVELS, LEVELS - error, LEVELS + error, color=MUTED, alpha=0.5, lw=0)
    axes.plot([0, 1], [0, 1], color="#374151", linewidth=1, label="calibrated")
    axes.plot(LEVELS, coverage(rank, LEVELS), marker="o", ms=4, color=PALETTE[0], label="found")
    axes.set(
        xlabel="probability of the central predictive interval",
        ylabel="share of observations inside",
        title="Calibration of predictive intervals",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(loc="upper left")
    return axes


def describe_calibration(idata: InferenceData, site: str | None = None, samples: ArrayLike | None = None) -> str:
    """How many observations the central 50 % and 90 % intervals hold, and whether that is right.

    Deviations below six and four points, or two standard errors, are put down to chance. Arguments
    and errors are those of :func:`predictive_rank`.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> describe_calibration(example_posterior())
        'The central 50 % and 90 % predictive intervals hold 70 % and 95 % of the observed values: they are too wide.'
    """
    rank, levels = predictive_rank(idata, site, samples), np.array([0.5, 0.9])
    found = coverage(rank, levels)
    slack = np.maximum([0.06, 0.04], 2 * np.sqrt(levels * (1 - levels) / max(1, len(rank))))
    wide, narrow = bool((found > levels + slack).any()), bool((found < levels - slack).any())
    word = "too wide" if wide else "too narrow" if narrow else "about right"
    if wide and narrow:
        word = "of the wrong shape"
    return (
        f"The central 50 % and 90 % predictive intervals hold {100 * found[0]:.0f} % and "
        f"{100 * found[1]:.0f} % of the observed values: they are {word}."
    )
