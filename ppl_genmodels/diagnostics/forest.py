"""Forest and summary of latents that are few enough to be read one by one.

Convention of this module: the variables are those that all rows share, followed by local ones of few
components. Intervals hold 94 % of the draws, ArviZ's own.
"""

from __future__ import annotations

import arviz
import numpy as np
import pandas as pd
from arviz import InferenceData
from matplotlib.axes import Axes

from ppl_genmodels.diagnostics.latents import global_variables, local_variables
from ppl_genmodels.diagnostics.style import PALETTE, new_axes, quiet_arviz, styled
from ppl_genmodels.errors import DataError

__all__ = ["describe_globals", "plot_forest", "readable_variables", "summary"]

MOST_VALUES = 40
"""Variables with more components than this are left out."""


def readable_variables(idata: InferenceData) -> list[str]:
    """Global variables, then local ones, whose components are few enough to be read one by one.

    Raises:
        DataError: When there is none.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> readable_variables(example_globals())
        ['mu', 'tau']
    """
    names = global_variables(idata) + local_variables(idata)
    few = [name for name in names if _components(idata, name) <= MOST_VALUES]
    if not few:
        raise DataError(f"posterior: no variable with {MOST_VALUES} components or fewer to draw.")
    return few


@styled
def plot_forest(idata: InferenceData, ax: Axes | None = None) -> Axes:
    """Median, quartiles and 94 % interval of every component, one below the other.

    Raises:
        DataError: When no variable is small enough.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> from matplotlib.figure import Figure
        >>> ax = plot_forest(example_globals(), ax=Figure().subplots())
        >>> [text.get_text() for text in ax.get_yticklabels()]
        ['tau', 'mu']
    """
    names = readable_variables(idata)
    lines = sum(_components(idata, name) for name in names)
    size = (6.8, max(2.2, 0.28 * lines + 1.2))
    axes: Axes = new_axes(size=size) if ax is None else ax
    with quiet_arviz():
        arviz.plot_forest(
            idata, var_names=names, combined=True, hdi_prob=0.94, ax=axes, figsize=size,
            textsize=10, colors=PALETTE[0],
        )  # fmt: skip
    axes.set_title("Median, quartiles and 94 % interval", fontsize=11)
    axes.set_xlabel("value")
    return axes


def summary(idata: InferenceData) -> pd.DataFrame:
    """ArviZ's summary of the readable variables: with diagnostics of chains where there are chains.

    Raises:
        DataError: When no variable is small enough.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> summary(example_globals()).loc["mu", ["mean", "sd"]].tolist()
        [3.952, 0.977]
    """
    several = idata.posterior.sizes["chain"] > 1
    kind = "all" if several else "stats"
    with np.errstate(all="ignore"), quiet_arviz():
        table: pd.DataFrame = arviz.summary(
            idata, var_names=readable_variables(idata), kind=kind, round_to=3, hdi_prob=0.94
        )
    return table


def describe_globals(idata: InferenceData) -> str:
    """Mean and standard deviation of the first components, and the worst of the chains' R-hat.

    Raises:
        DataError: When no variable is small enough.

    Example:
        >>> from ppl_genmodels.diagnostics import example_globals
        >>> describe_globals(example_globals())
        'Posterior mean ± standard deviation: mu = 3.95 ± 0.98, tau = 2.01 ± 2.1.'
    """
    table = summary(idata)
    parts = [f"{name} = {row['mean']:.3g} ± {row['sd']:.2g}" for name, row in table.iterrows()]
    more = f", and {len(parts) - 4} more" if len(parts) > 4 else ""
    sentence = f"Posterior mean ± standard deviation: {', '.join(parts[:4])}{more}."
    if "r_hat" in table and table["r_hat"].notna().any():
        worst = table["r_hat"].max()
        verdict = "the chains agree" if worst < 1.01 else "the chains disagree: run them for longer"
        sentence += f" The largest R-hat is {worst:.3f}: {verdict}."
    return sentence


def _components(idata: InferenceData, name: str) -> int:
    return int(np.prod(idata.posterior[name].shape[2:]))
