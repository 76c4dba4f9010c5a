"""The health of a game over the steps of training, from what :class:`~ppl_genmodels.inference.GameHealth` measured.

Convention of this module: a game is called by the sites it is played at, such as ``game[x]``; shares are from 0 to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.fitted_like import FittedLike
from ppl_genmodels.diagnostics.style import PALETTE, legend_beside, new_axes, styled
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference.game_failures import game_failures

__all__ = ["describe_game", "games_of", "plot_game"]

LAST = 10
"""Measures that must agree for the report to call a game failed."""


def games_of(history: pd.DataFrame) -> list[str]:
    """The games that a history has measures of.

    Example:
        >>> games_of(pd.DataFrame({"step": [1], "game[x] accuracy": [0.5], "game[x] push": [1.0]}))
        ['game[x]']
    """
    suffix = " accuracy"
    found = [name.removesuffix(suffix) for name in history.columns if name.endswith(suffix)]
    return [name for name in found if name.startswith("game[")]


@styled
def plot_game(fitted: FittedLike, axes: Any = None) -> NDArray[Any]:
    """What was measured of each game: its critic, its samples, its gradients, and the course of the samples' mean.

    Args:
        fitted: What was fitted, with a :class:`~ppl_genmodels.inference.GameHealth` among the callbacks.
        axes: Four for each game; new ones when None.

    Returns:
        The axes, one-dimensional.

    Raises:
        DataError: When the history has no measures of a game.

    Example:
        >>> from types import SimpleNamespace
        >>> from matplotlib.figure import Figure
        >>> columns = {f"game[x] {name}": [0.5, 0.6] for name in ("accuracy", "coverage", "push", "course")}
        >>> fitted = SimpleNamespace(history=pd.DataFrame({"step": [1, 2], **columns}))
        >>> [ax.get_title() for ax in plot_game(fitted, Figure().subplots(2, 2))]
        ['game[x]: critic', 'game[x]: samples', 'game[x]: gradients', 'game[x]: course of the mean']
    """
    games = _games(fitted)
    height = 2.8 * 2 * len(games)
    panels = np.ravel(new_axes(2 * len(games), 2, (10.0, height)) if axes is None else axes)
    for game, (critic, samples, gradients, course) in zip(games, panels.reshape(-1, 4), strict=True):
        measured = _measured(fitted.history, game)
        _curves(critic, measured, ("accuracy", "calibration"), f"{game}: critic", "share")
        critic.axhline(0.5, color=PALETTE[4], linestyle=":", linewidth=1)
        critic.set_ylim(-0.03, 1.03)
        _draw_samples(samples, measured, f"{game}: samples")
        _draw_gradients(gradients, fitted.history, measured, game)
        _curves(course, measured, ("course",), f"{game}: course of the mean", "deviations from the data's")
        course.axhline(0.0, color=PALETTE[4], linestyle=":", linewidth=1)
    return panels


def describe_game(fitted: FittedLike) -> str:
    """How each game stood at the last measure, and what is wrong with it.

    Raises:
        DataError: When the history has no measures of a game.
    """
    return " ".join(_described(fitted.history, game) for game in _games(fitted))


def _described(history: pd.DataFrame, game: str) -> str:
    measured = _measured(history, game)
    rows = [{str(name): float(value) for name, value in row.items()} for row in measured.to_dict("records")]
    last = rows[-1]
    told = f"{game}: the critic tells {100 * last['accuracy']:.0f} % of the values rightly"
    if np.isfinite(last.get("coverage", np.nan)):
        told += f", and {100 * last['coverage']:.0f} % of the data have a sample near them"
    if "modes" in last:
        told += f"; samples are of {last['modes']:.0f} of {last['data modes']:.0f} modes"
    wrong = game_failures(rows, min(LAST, len(rows)))
    return f"{told}. " + (" ".join(_sentence(each) for each in wrong.values()) or "No failure was found.")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _games(fitted: FittedLike) -> list[str]:
    games = [game for game in games_of(fitted.history) if len(_measured(fitted.history, game))]
    if not games:
        raise DataError("history: no measures of a game. Remedy: fit with callbacks=[inference.GameHealth()].")
    return games


def _measured(history: pd.DataFrame, game: str) -> pd.DataFrame:
    """The measures of a game with the steps they were taken at."""
    own = {name: name.removeprefix(f"{game} ") for name in history.columns if name.startswith(f"{game} ")}
    return history[["step", *own]].rename(columns=own).dropna(subset="accuracy")


def _curves(ax: Axes, measured: pd.DataFrame, names: tuple[str, ...], title: str, label: str) -> None:
    marker = "o" if len(measured) < 40 else None
    for name, colour in zip(names, PALETTE, strict=False):
        if name in measured and measured[name].notna().any():
            ax.plot(measured["step"], measured[name], color=colour, marker=marker, markersize=3, label=name)
    if len(names) > 1:
        legend_beside(ax)
    ax.set(title=title, xlabel="step", ylabel=label)


def _draw_samples(ax: Axes, measured: pd.DataFrame, title: str) -> None:
    shown = measured.copy()
    if "modes" in shown:
        shown["modes covered"] = shown["modes"] / shown["data modes"]
    _curves(ax, shown, ("coverage", "precision", "duplicates", "spread", "modes covered"), title, "share")
    ax.set_ylim(-0.05, 1.55)


def _draw_gradients(ax: Axes, history: pd.DataFrame, measured: pd.DataFrame, game: str) -> None:
    """Norms of both players' gradients at each step, and the push at each measure."""
    critic = f"{game.replace('game', 'critic')} gradient"
    for name, label, colour in (("gradient_norm", "program's", PALETTE[0]), (critic, "critic's", PALETTE[1])):
        if name in history:
            smooth = history[name].rolling(max(1, len(history) // 100), min_periods=1, center=True).median()
            ax.plot(history["step"], smooth.where(smooth > 0), color=colour, label=f"{label} norm", alpha=0.8)
    ax.plot(measured["step"], measured["push"].where(measured["push"] > 0), color=PALETTE[2], label="push")
    ax.set_yscale("log")
    legend_beside(ax)
    ax.set(title=f"{game}: gradients", xlabel="step", ylabel="norm, and push as a share")
