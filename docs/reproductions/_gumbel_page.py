"""The sections of the two comparisons of Jang, Gu and Poole (2017): table, picture, and remarks.

Convention of this module: a loss is minus a bound, in nats per image; lower is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from _gumbel import ESTIMATORS, SLOPE, Experiment
from _gumbel_cases import (
    BATCH_SIZE,
    EVERY,
    LEARNING_RATES,
    PARTICLES,
    SHORT,
    TRAINING,
    TRIED_IMAGES,
    TRIED_PARTICLES,
    Case,
)
from _page import Row, cost, estimate, number
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

TOLERANCE = 2.0
"""Nats above the published number that still count as having reached it."""
PICTURE_COLORS = 96


def table_rows(experiment: Experiment, cases: Sequence[Case]) -> list[Row]:
    """One row for each number of the paper's table 1, and for each kind of units which loss is the lowest."""
    found = {(case.units, case.estimator): case for case in cases}
    rows = [
        _row(f"{units} units, {name}", published, found.get((units, name)))
        for units, numbers in experiment.published.items()
        for name, published in zip(ESTIMATORS, numbers, strict=True)
    ]
    return [
        *rows,
        *(
            _lowest(f"{units} units, lowest", numbers, [case for case in cases if case.units == units])
            for units, numbers in experiment.published.items()
        ),
    ]


def _lowest(quantity: str, published: Sequence[float], cases: Sequence[Case]) -> Row:
    """Which loss is the lowest, and by how much, on the same test images."""
    (first, name), (second, _) = sorted(zip(published, ESTIMATORS, strict=True))[:2]
    best, next_best = sorted(cases, key=lambda case: torch.stack(case.loss()).mean().item())[:2]
    by = estimate([b - a for a, b in zip(best.loss(), next_best.loss(), strict=True)])
    here = f"{best.estimator}, by {by}, below {next_best.estimator}"
    return Row(quantity, f"{name}, by {number(second - first)}", here, best.estimator == name)


def longer_rows(experiment: Experiment, cases: Sequence[Case], epochs: int) -> list[Row]:
    """One row for each case that was run for longer than the others, against the same numbers of the paper."""
    return [
        _row(
            f"{case.units} units, {case.estimator}, {epochs} epochs",
            experiment.published[case.units][ESTIMATORS.index(case.estimator)],
            case,
        )
        for case in cases
    ]


def _row(quantity: str, published: float, case: Case | None) -> Row:
    if case is None:
        return Row(quantity, number(published), "not in the library")
    losses = case.loss()
    one = number(torch.stack(case.loss("one_draw")).mean())
    reached = bool(torch.stack(losses).mean() <= published + TOLERANCE)
    return Row(quantity, number(published), f"{estimate(losses)}; {one} by one draw", reached)


def draw(path: Path, cases: Sequence[Case], ylim: tuple[float, float]) -> None:
    """The loss on validation images after each epoch, as a PNG: one panel for each kind of units."""
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    kinds = list(dict.fromkeys(case.units for case in cases))
    for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        _draw_kind(axes, [case for case in cases if case.units == kind])
        axes.set_title(f"{kind} units", loc="left", fontsize=11)
        axes.set_ylim(*ylim)
    figure.savefig(path, dpi=90)
    Image.open(path).convert("RGB").quantize(PICTURE_COLORS).save(path, optimize=True)


def _draw_kind(axes: Axes, cases: Sequence[Case]) -> None:
    colors = colormaps["tab10"]
    for case in cases:
        curve = -torch.tensor(case.curves[0])
        color = colors(ESTIMATORS.index(case.estimator))
        axes.plot(torch.arange(1, len(curve) + 1), curve, color=color, label=case.estimator)
    axes.set_xlabel("epochs")
    axes.set_ylabel("nats per validation image, by one draw")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def remarks(cases: Sequence[Case], epochs: int, paid: Sequence[Case]) -> str:
    """What the two experiments have in common, as items of a list.

    Args:
        paid: The cases whose cost is summed.
    """
    draws = f"{PARTICLES:,} draws"
    return f"""
- **Reached** is a loss at most {TOLERANCE:g} nats above the published one. Lower is better.
- **Data**: {TRAINING:,} images to train on, 10,000 to choose by, and every {EVERY}th of the test
  images to report. Each pixel is binarised once, by a draw from its grey level with a fixed seed.
  The paper's binarisation is fixed too, by other draws.
- **Evaluation**: minus the log of the mean weight of {draws}, and of one. Estimators act where
  gradients are taken and nowhere else, so every number is that of the program with discrete units,
  of its last weights. One draw is what is trained, by every estimator but Gumbel-Softmax, whose
  units are inside the cube or simplex then; by one draw it is not the best.
- **Training**: {epochs} epochs in batches of {BATCH_SIZE}, by Adam, from a learning rate down to 0 as
  a cosine; the paper has gradient descent with momentum and does not say for how long. Learning
  rates from {_listed()} were tried for a {SHORT}th of the epochs and chosen by the bound with
  {TRIED_PARTICLES} draws on the first {TRIED_IMAGES:,} validation images:
  {_rates(cases)}.
- **Score function, MuProp**: the mean of the other images of the batch is subtracted from the cost,
  or from what MuProp leaves of it, and Adam adapts the scale; the paper normalises the variance.
- **Annealed straight-through** is not in the library: the script adds it, as an estimator of one's
  own, whose slope goes from 1 to {SLOPE:g} within the first half; the paper does not give its slopes.
- **DARN** is not in the library.
- **Cost**: {cost(sum(case.seconds for case in paid))}, for all fits, the choice of learning rates
  and the evaluation.
"""


def second_half(cases: Sequence[Case], estimator: str) -> str:
    """How much the loss on validation images changed within the second half of a fit, for each kind of units."""
    curves = [torch.tensor(case.curves[0]) for case in cases if case.estimator == estimator]
    return " and ".join(number(curve[len(curve) // 2] - curve[-1]) for curve in curves)


def _listed() -> str:
    *others, last = (f"{rate:g}" for rate in LEARNING_RATES)
    return f"{', '.join(others)} and {last}"


def _rates(cases: Sequence[Case]) -> str:
    """Which learning rate was chosen for what, the most frequent one first."""
    chosen = {rate: [case for case in cases if case.learning_rate == rate] for rate in LEARNING_RATES}
    most, *rest = sorted(chosen, key=lambda rate: -len(chosen[rate]))
    named = [f"{rate:g} for {case.estimator} ({case.units})" for rate in rest for case in chosen[rate]]
    return f"{', '.join(named)}, and {most:g} for all others" if named else f"{most:g} for all"
