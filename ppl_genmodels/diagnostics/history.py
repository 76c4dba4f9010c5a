"""The course of training: the objective, its terms, and the size of its gradient.

Convention of this module: objectives are maximised and given in nats per row; the horizontal axis
counts optimisation steps. Thin lines are single steps, thick ones running means over a fiftieth of
the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.fitted_like import FittedLike
from ppl_genmodels.diagnostics.style import PALETTE, new_axes, new_figure, styled
from ppl_genmodels.errors import DataError

__all__ = ["describe_gradient", "describe_history", "plot_gradient", "plot_history", "term_names"]

NOT_TERMS = frozenset({"step", "epoch", "objective", "gradient_norm", "time", "validation", "learning_rate"})


def term_names(history: pd.DataFrame) -> list[str]:
    """The columns of a history that are terms of its objective; not what belongs to one, as ``critic[x] gradient``.

    Example:
        >>> term_names(pd.DataFrame(columns=["step", "objective", "log_lik", "kl", "time"]))
        ['log_lik', 'kl']
    """
    return [name for name in history.columns if name not in NOT_TERMS and "] " not in name]


@styled
def plot_history(fitted: FittedLike, axes: Any = None) -> NDArray[Any]:
    """The objective with its validation, and each of its terms, over the steps of training.

    Args:
        fitted: What was fitted.
        axes: As many axes as there are terms and one more; new ones when None.

    Returns:
        The axes, one-dimensional: the objective first, then the terms in the history's order.

    Raises:
        DataError: When the history is empty.

    Example:
        >>> import torch, ppl_genmodels as ppl
        >>> from matplotlib.figure import Figure
        >>> program = ppl.models.VAE(data_dim=36, latent_dim=2, hidden=(8,))
        >>> x = torch.rand(64, 36).round()
        >>> fitted = ppl.fit(program, x, steps=20, progress=False)
        >>> axes = plot_history(fitted, Figure().subplots(3))
        >>> [ax.get_title() for ax in axes]
        ['objective', 'log_lik', 'kl']
    """
    history = _history(fitted)
    terms = term_names(history)
    if len(terms) == 1:
        terms = [] if history[terms[0]].equals(history["objective"]) else terms
    panels: NDArray[Any] = _panels(len(terms)) if axes is None else np.atleast_1d(axes).ravel()
    for panel, name, colour in zip(panels, ["objective", *terms], _colours(), strict=False):
        _draw_curve(panel, history["step"], history[name], colour)
        panel.set(title=name, xlabel="step", ylabel="nats per row")
    _draw_validation(panels[0], history)
    return panels


def _panels(terms: int) -> NDArray[Any]:
    """The objective across the whole width, the terms in rows of at most three below."""
    columns = min(3, max(1, terms))
    rows = -(-terms // columns)
    names = [f"term {number}" for number in range(terms)] + ["."] * (columns * rows - terms)
    grid = [["objective"] * columns, *(names[i * columns : (i + 1) * columns] for i in range(rows))]
    made: dict[str, Any] = new_figure((8.4, 3.0 + 2.5 * rows)).subplot_mosaic(grid)
    return np.array([made[name] for name in ["objective", *names[:terms]]])


@styled
def plot_gradient(fitted: FittedLike, ax: Axes | None = None) -> Axes:
    """The norm of the gradient over the steps of training, on a logarithmic scale.

    Raises:
        DataError: When the history is empty or has no gradient norms.

    Example:
        >>> import torch, ppl_genmodels as ppl
        >>> from matplotlib.figure import Figure
        >>> program = ppl.models.VAE(data_dim=36, latent_dim=2, hidden=(8,))
        >>> x = torch.rand(64, 36).round()
        >>> fitted = ppl.fit(program, x, steps=20, progress=False)
        >>> ax = plot_gradient(fitted, Figure().subplots())
        >>> ax.get_yscale()
        'log'
    """
    history = _history(fitted, "gradient_norm")
    axes: Axes = new_axes(size=(7.0, 3.2)) if ax is None else ax
    positive = history["gradient_norm"].where(history["gradient_norm"] > 0)
    _draw_curve(axes, history["step"], positive, PALETTE[2], limited=False)
    axes.set_yscale("log")
    axes.set(title="norm of the gradient", xlabel="step", ylabel="norm")
    return axes


def describe_history(fitted: FittedLike) -> str:
    """Where the objective started and ended, whether it still moves, and what validation says.

    It is called converged when the straight line through its last tenth rises by less than a
    hundredth of the whole rise, and level when by less than two of its standard errors.

    Raises:
        DataError: When the history is empty.

    Example:
        >>> class Fitted:
        ...     history = pd.DataFrame({"step": range(100), "objective": np.minimum(range(100), 50)})
        >>> describe_history(Fitted())
        'The objective rose from 0 to 50 nats per row; over the last 50 steps it changed by 0 ± 0 per step: converged.'
    """
    history = _history(fitted)
    history = history[np.isfinite(history["objective"])]
    values = history["objective"].to_numpy(float)
    late = max(len(values) // 10, min(len(values) // 2, 50), 1)
    start, end = values[: max(1, len(values) // 100)].mean(), values[-late:].mean()
    course = "rose" if end >= start else "fell"
    sentence = f"The objective {course} from {start:.4g} to {end:.4g} nats per row"
    if late >= 5:
        slope, error = _slope(history["step"].to_numpy(float)[-late:], values[-late:])
        sentence += f"; over the last {late} steps it changed by {slope:.2g} ± {error:.1g} per step: "
        sentence += _verdict(slope * late, error * late, end - start)
    return f"{sentence}. {_describe_validation(fitted.history)}".strip()


def describe_gradient(fitted: FittedLike) -> str:
    """The usual gradient norm at the end of training, and how many steps stood far above it.

    Raises:
        DataError: When the history is empty or has no gradient norms.

    Example:
        >>> class Fitted:
        ...     history = pd.DataFrame({"step": range(50), "gradient_norm": [3.0] * 49 + [40.0]})
        >>> describe_gradient(Fitted()).split("; ")[1]
        "1 of 50 steps were more than ten times their neighbourhood's median."
    """
    history = _history(fitted, "gradient_norm")
    values = history["gradient_norm"].dropna().to_numpy(float)
    late = float(np.median(values[-max(1, len(values) // 10) :]))
    running = pd.Series(values).rolling(101, center=True, min_periods=1).median().to_numpy()
    bursts = int((values > 10 * running).sum())
    return (
        f"The median norm over the last tenth is {late:.3g}; {bursts} of {len(values)} steps were "
        f"more than ten times their neighbourhood's median."
    )


def _history(fitted: FittedLike, needed: str = "objective") -> pd.DataFrame:
    history = fitted.history
    if len(history) == 0 or needed not in history or history[needed].isna().all():
        raise DataError(f"history: no values of '{needed}'. Fit for at least one step.")
    return history


def _colours() -> list[str]:
    return list(PALETTE) * 10


def _draw_curve(ax: Axes, step: pd.Series[Any], values: pd.Series[Any], colour: str, limited: bool = True) -> None:
    window = max(1, len(values) // 50)
    running = values.rolling(window, min_periods=1, center=True).mean()
    ax.plot(step, values, color=colour, alpha=0.3, linewidth=0.8)
    ax.plot(step, running, color=colour, marker="o" if len(values) == 1 else None)
    finite = values[np.isfinite(values)]
    if limited and len(finite) > 50:
        low, high = finite.quantile([0.03, 0.97])
        margin = 0.15 * (high - low)
        low, high = max(low - margin, finite.min()), min(high + margin, finite.max())
        if high > low:
            ax.set_ylim(low - margin / 3, high + margin / 3)


def _draw_validation(ax: Axes, history: pd.DataFrame) -> None:
    seen = history[history["validation"].notna()] if "validation" in history else history[:0]
    if len(seen):
        marker = "o" if len(seen) <= 60 else None
        colour = "#111827"
        ax.plot(seen["step"], seen["validation"], color=colour, marker=marker, ms=3, label="validation")
        ax.plot([], [], color=PALETTE[0], label="training")
        ax.legend(loc="lower right")


def _slope(step: NDArray[Any], values: NDArray[Any]) -> tuple[float, float]:
    """Least-squares slope of the values, and its standard error."""
    centred = step - step.mean()
    spread = float((centred**2).sum())
    slope = float((centred * values).sum()) / spread
    residual = values - values.mean() - slope * centred
    return slope, float(np.sqrt((residual**2).sum() / max(1, len(step) - 2) / spread))


def _verdict(change: float, error: float, rise: float) -> str:
    if abs(change) < 0.01 * abs(rise):
        return "converged"
    if abs(change) < 2 * error:
        return "level within its noise"
    return "still rising, train for longer" if change > 0 else "falling, lower the learning rate"


def _describe_validation(history: pd.DataFrame) -> str:
    if "validation" not in history or history["validation"].notna().sum() == 0:
        return ""
    seen = history[history["validation"].notna()]
    best = seen.iloc[int(seen["validation"].to_numpy().argmax())]
    last = float(seen["validation"].iloc[-1])
    sentence = f"Validation was best, {best['validation']:.4g}, at step {int(best['step'])}"
    lost = float(best["validation"]) - last
    return sentence + (f" and has fallen by {lost:.2g} since." if lost > 0 else ", the last.")
