"""When a game has failed: the critic wins, the generator collapses or stays away from the data, or the game cycles.

Convention of this module: measures are in the order of training, one mapping for each time that they were taken; what
is said of a failure is one sentence with its remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ppl_genmodels.inference.game_measures import NEIGHBOURS

__all__ = ["game_failures"]

Measures = Sequence[Mapping[str, float]]
Values = NDArray[np.float64]

WINNING = 0.95
"""Accuracy from which a critic tells the sides apart nearly always."""
VANISHED = 0.05
"""Push below which a gradient has vanished."""
STILL = 1e-6
"""Course of less than so many standard deviations in the whole window: nothing moves."""
NARROW = 0.05
"""Share of the data's variance below which samples are one point."""
HALF = 0.5
"""Duplicates above it are a collapse, and coverage below that share of what samples spread evenly would have."""
LOST, NEARER = 0.2, 0.02
"""Precision and coverage below which samples are away from the data, and by how much they rise where it changes."""
MISSING = 0.9
"""Share of the data's modes below which some are missing."""
WIDE = {"course": 0.2, "spread": 0.4}
"""Standard deviation from which the course, and the logarithm of the spread, swing."""
FAR = 3.0
"""Times as much, and it swings however far it swung before."""
SWINGS, SETTLES, LONGEST_WAIT = 4, 0.6, 16


def game_failures(measured: Measures, patience: int) -> dict[str, str]:
    r"""What is wrong with a game by its last measures.

    - ``critic wins``: throughout the last measures it tells the sides apart, and the gradient for the program has
      vanished, or the program does not move;
    - ``collapse``: throughout them samples have no variance, or are copies of one another, or have less than half
      of the data near them that as many near data would have if they were spread evenly, or miss modes, and it does
      not become better;
    - ``astray``: throughout twice as many samples hardly ever lie where data lie, and come no nearer,
      and the critic has not won;
    - ``cycles``: over the later half of all, 16 at least, the samples' mean or their spread goes up and down through
      its middle four times or more, and does not settle.

    Args:
        measured: As :func:`~ppl_genmodels.inference.game_measures.sample_measures` and ``critic_measures`` name them.
        patience: How many of the last measures must agree.

    Returns:
        From the failure to a sentence; empty for a healthy game.

    Example:
        >>> found = game_failures([{"accuracy": 1.0, "push": 1e-5, "course": 2.0}] * 5, patience=5)
        >>> list(found)
        ['critic wins']
    """
    wins = _critic_wins(measured, patience)
    found = {
        "critic wins": wins,
        "collapse": _collapse(measured, patience),
        "astray": "" if wins else _astray(measured, 2 * patience),
        "cycles": _cycles(measured),
    }
    return {name: sentence for name, sentence in found.items() if sentence}


def _series(measured: Measures, name: str, last: int) -> Values:
    return np.array([each.get(name, np.nan) for each in measured[-last:]], dtype=float)


def _critic_wins(measured: Measures, patience: int) -> str:
    if len(measured) < patience or not _series(measured, "accuracy", patience).min() >= WINNING:
        return ""
    push, course = (_series(measured, name, patience) for name in ("push", "course"))
    told = f"the critic wins: it tells {100 * measured[-1]['accuracy']:.0f} % of the values rightly, and"
    if np.median(push) < VANISHED:
        return (
            f"{told} the gradient it gives is {np.median(push):.1g} of what would lead to it. Remedy: NonSaturating() "
            f"or Wasserstein(gradient_penalty=10.0), or fewer steps or a lower learning rate of the critic."
        )
    if np.ptp(course) < STILL:
        return (
            f"{told} the program stands still. Remedy: look at its learning rate and at units of it that are saturated."
        )
    return ""


def _collapse(measured: Measures, patience: int) -> str:
    if len(measured) < patience:
        return ""
    spread, duplicates, precision, coverage, modes, all_modes = (
        _series(measured, name, patience)
        for name in ("spread", "duplicates", "precision", "coverage", "modes", "data modes")
    )
    remedy = (
        "Remedy: Wasserstein(gradient_penalty=10.0), a larger batch, more steps of the critic, or a lower learning "
        "rate of the program."
    )
    if spread.max() < NARROW and not _rises(spread):
        return f"the samples collapse: their variance is {spread[-1]:.2g} of the data's. {remedy}"
    if duplicates.min() > HALF:
        return f"the samples collapse: {100 * duplicates[-1]:.0f} % of them are copies of another. {remedy}"
    if (modes < MISSING * all_modes).all() and not _rises(modes):
        return f"the samples collapse: they are of {modes[-1]:.0f} of the {all_modes[-1]:.0f} modes. {remedy}"
    even = 1 - np.exp(-NEIGHBOURS * precision)  # a neighbourhood holds so many data, and that share of samples
    if (coverage < HALF * even).all() and not _rises(coverage):
        return f"the samples collapse: {100 * coverage[-1]:.0f} % of the data have one near them. {remedy}"
    return ""


def _astray(measured: Measures, patience: int) -> str:
    if len(measured) < patience:
        return ""
    shares = [_series(measured, name, patience) for name in ("precision", "coverage")]
    if not all(share.max() < LOST and _gain(share) < NEARER for share in shares):
        return ""
    return (
        f"the samples stay away from the data: {100 * shares[0][-1]:.0f} % of them lie where data lie. Remedy: a "
        f"larger generator, a higher learning rate where nothing moves, or a lower one where it jumps."
    )


def _rises(values: Values) -> bool:
    """Whether the later values are above the earlier ones by a tenth; means, since single measures are noisy."""
    earlier, later = _halves(values)
    return later > 1.1 * max(earlier, 0.01)


def _gain(values: Values) -> float:
    earlier, later = _halves(values)
    return later - earlier


def _halves(values: Values) -> tuple[float, float]:
    """The means of the earlier and of the later ones."""
    earlier, later = (float(part.mean()) for part in np.array_split(values, 2))
    return earlier, later


def _cycles(measured: Measures) -> str:
    if len(measured) < LONGEST_WAIT:
        return ""
    last = max(LONGEST_WAIT, len(measured) // 2)
    courses = {"course": _series(measured, "course", last), "spread": np.log(_series(measured, "spread", last) + 1e-9)}
    what = {"course": "mean", "spread": "spread"}
    for name, values in courses.items():
        if _swings(values, WIDE[name]):
            return (
                f"the game cycles: the samples' {what[name]} goes up and down and does not settle. Remedy: "
                f"GradientPenalty(1.0, target=0.0, at='first') among the regularizers, lower learning rates, or EMA "
                f"among the callbacks."
            )
    return ""


def _swings(values: Values, wide: float) -> bool:
    """Whether values go through their middle again and again, as far at the end as before, or still far."""
    if not np.isfinite(values).all():
        return False
    around = values - values.mean()
    crossings = int((np.diff(np.signbit(around).astype(int)) != 0).sum())
    early, late = (part.std() for part in np.array_split(around, 2))
    return crossings >= SWINGS and bool(around.std() >= wide) and bool(late >= min(SETTLES * early, FAR * wide))
