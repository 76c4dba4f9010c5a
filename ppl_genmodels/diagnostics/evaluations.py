"""How often a continuous flow evaluates its network, over training.

Convention of this module: the counts are those of one solve of the differential equation, recorded at steps of training
by :class:`ppl_genmodels.inference.Evaluations`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.style import PALETTE, new_axes, styled
from ppl_genmodels.errors import DataError

__all__ = ["describe_evaluations", "plot_evaluations"]


class Recorded(Protocol):
    """Steps of training and the evaluations counted at each, of equal length."""

    steps: list[int]
    counts: list[int]


@styled
def plot_evaluations(callback: Recorded, ax: Axes | None = None) -> Axes:
    """The number of function evaluations of a solve over the steps of training.

    The thick line is a running median over a twentieth of what was recorded.

    Args:
        callback: What counted them, an :class:`~ppl_genmodels.inference.Evaluations` given to the fit.
        ax: Where to draw.

    Raises:
        DataError: When nothing was recorded.

    Example:
        >>> from matplotlib.figure import Figure
        >>> class Callback:
        ...     steps, counts = [0, 1, 2], [14, 20, 26]
        >>> ax = plot_evaluations(Callback(), Figure().subplots())
        >>> ax.get_ylabel()
        'evaluations in a solve'
    """
    steps, counts = _recorded(callback)
    axes: Axes = new_axes(size=(7.0, 3.2)) if ax is None else ax
    window = max(1, len(counts) // 20)
    running = pd.Series(counts).rolling(window, min_periods=1, center=True).median()
    axes.plot(steps, counts, color=PALETTE[2], alpha=0.3, linewidth=0.8)
    axes.plot(steps, running, color=PALETTE[2], marker="o" if len(counts) == 1 else None)
    axes.set(title="function evaluations", xlabel="step", ylabel="evaluations in a solve", ylim=(0, 1.1 * counts.max()))
    return axes


def describe_evaluations(callback: Recorded) -> str:
    """The usual number of evaluations in the first and the last tenth, and the largest.

    Raises:
        DataError: When nothing was recorded.

    Example:
        >>> class Callback:
        ...     steps, counts = list(range(100)), [14] * 50 + [26] * 49 + [38]
        >>> describe_evaluations(Callback())
        'Median evaluations in a solve: 14 in the first tenth of training, 26 in the last; the most, 38, at step 99.'
    """
    steps, counts = _recorded(callback)
    tenth = max(1, len(counts) // 10)
    first, last = np.median(counts[:tenth]), np.median(counts[-tenth:])
    most = int(counts.argmax())
    return (
        f"Median evaluations in a solve: {first:g} in the first tenth of training, {last:g} in the last; the most, "
        f"{counts[most]}, at step {steps[most]}."
    )


def _recorded(callback: Recorded) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    steps, counts = np.asarray(callback.steps, np.int64), np.asarray(callback.counts, np.int64)
    if not len(counts):
        raise DataError(
            "evaluations: nothing was recorded. Remedy: fit(..., callbacks=[callback]) for at least one step, with a "
            "continuous flow in the program."
        )
    return steps, counts
