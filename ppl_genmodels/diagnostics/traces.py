"""Draws of global latents: their traces and densities, and one against the other.

Convention of this module: each component of a variable is drawn by itself; components that do not
vary over draws are left out.
"""

from __future__ import annotations

from typing import Any

import arviz
import numpy as np
from arviz import InferenceData
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.forest import summary
from ppl_genmodels.diagnostics.latents import dim_labels, global_variables
from ppl_genmodels.diagnostics.style import PALETTE, new_axes, quiet_arviz, styled
from ppl_genmodels.errors import DataError

__all__ = ["describe_pairs", "describe_trace", "plot_pair", "plot_trace"]

MOST_TRACES = 6
MOST_PAIRS = 4


@styled
def plot_trace(idata: InferenceData, axes: Any = None) -> NDArray[Any]:
    """Density and draws of up to six components of the global variables.

    Args:
        idata: A posterior.
        axes: Two for each component, shape (component, 2); new ones when None.

    Raises:
        DataError: When no global variable varies over draws.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> from matplotlib.figure import Figure
        >>> axes = plot_trace(example_globals(), axes=Figure().subplots(2, 2))
        >>> [left.get_title() for left, right in axes]
        ['mu', 'tau']
    """
    components = _components_of_globals(idata, MOST_TRACES)
    count = len(components.posterior)
    if axes is None:
        axes = new_axes(count, 2, (8.4, 1.7 * count + 0.5))
    panels: NDArray[Any] = np.reshape(axes, (count, 2))
    with quiet_arviz():
        arviz.plot_trace(components, axes=panels)
    for left, right in panels:
        left.set(ylabel="density", yticks=[])
        right.set(xlabel="draw")
        for panel in (left, right):
            panel.title.set_fontsize(10)
    return panels


@styled
def plot_pair(idata: InferenceData, axes: Any = None) -> NDArray[Any]:
    """Draws of up to four components of the global variables, one against the other.

    Args:
        idata: A posterior.
        axes: Shape (component - 1, component - 1); new ones when None.

    Raises:
        DataError: When fewer than two components of global variables vary over draws.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> from matplotlib.figure import Figure
        >>> axes = plot_pair(example_globals(), axes=Figure().subplots())
        >>> axes[0, 0].get_xlabel(), axes[0, 0].get_ylabel()
        ('mu', 'tau')
    """
    components = _components_of_globals(idata, MOST_PAIRS)
    count = len(components.posterior) - 1
    if count < 1:
        raise DataError("pairs: the global variables have one component, two are needed.")
    if axes is None:
        axes = new_axes(count, count, (2.4 * count + 1.8, 2.2 * count + 1.2))
    panels: NDArray[Any] = np.reshape(axes, (count, count))
    dots = {"s": 10, "alpha": 0.5, "lw": 0, "marker": "o", "color": PALETTE[0]}
    with quiet_arviz():
        arviz.plot_pair(
            components, ax=panels if count > 1 else panels[0, 0], scatter_kwargs=dots, textsize=10,
            divergences="sample_stats" in components,
        )  # fmt: skip
    for panel in panels.ravel():
        panel.xaxis.label.set_fontsize(10)
        panel.yaxis.label.set_fontsize(10)
    diverged = " (outlined: diverged)" if "sample_stats" in components else ""
    panels[0, 0].set_title(f"Draws of global latents{diverged}")
    return panels


def describe_trace(idata: InferenceData) -> str:
    """How many draws there are, and for chains how many they are worth and how many diverged.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> describe_trace(example_globals())
        '1000 draws, independent when they come from a guide.'
    """
    chains, draws = idata.posterior.sizes["chain"], idata.posterior.sizes["draw"]
    if chains == 1:
        return f"{draws} draws, independent when they come from a guide."
    worth = summary(idata)["ess_bulk"].min()
    sentence = f"{chains} chains of {draws} draws, worth at least {worth:.0f} independent ones"
    if "sample_stats" in idata and "diverging" in idata.sample_stats:
        sentence += f"; {int(idata.sample_stats['diverging'].sum())} transitions diverged"
    return f"{sentence}."


def describe_pairs(idata: InferenceData) -> str:
    """The two components that are most correlated.

    Raises:
        DataError: When no global variable varies over draws.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> describe_pairs(example_globals())
        'The strongest correlation, -0.03, is that of mu and tau.'
    """
    components = _components_of_globals(idata, MOST_PAIRS).posterior
    names = list(components.data_vars)
    draws = np.stack([components[name].values.ravel() for name in names])
    if len(names) < 2:
        return f"Only {names[0]} varies."
    correlation = np.corrcoef(draws) - np.eye(len(names))
    place = np.unravel_index(np.abs(correlation).argmax(), correlation.shape)
    first, second = sorted(map(int, place))
    return (
        f"The strongest correlation, {correlation[first, second]:.2f}, is that of {names[first]} and {names[second]}."
    )


def _components_of_globals(idata: InferenceData, most: int) -> InferenceData:
    """The first global components that vary over draws, each a variable of its own."""
    posterior: dict[str, NDArray[Any]] = {}
    for name in global_variables(idata):
        values = idata.posterior[name].values
        flat = values.reshape(*values.shape[:2], -1)
        labels = dim_labels(idata.posterior[name])
        posterior |= {label: flat[..., index] for index, label in enumerate(labels)}
    posterior = {name: draws for name, draws in posterior.items() if np.ptp(draws) > 0}
    if not posterior:
        raise DataError("posterior: no variable that all rows share and that varies over draws.")
    chosen = {name: posterior[name] for name in list(posterior)[:most]}
    statistics = idata.sample_stats if "sample_stats" in idata else {}
    diverging = {"diverging": statistics["diverging"].values} if "diverging" in statistics else None
    return arviz.from_dict(posterior=chosen, sample_stats=diverging)
