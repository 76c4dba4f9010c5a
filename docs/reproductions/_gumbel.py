"""The discrete units of Jang, Gu and Poole (2017), and the gradient estimators that they compare.

Convention of this module: a layer of units hands on 200 numbers, bits or one-hot vectors side by
side. The names of estimators stand in the order of the paper's table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pyro.distributions as dist
from torch import Tensor, nn
from torch.distributions import Bernoulli

from ppl_genmodels import handlers
from ppl_genmodels.distributions.relaxed import StraightThroughMass
from ppl_genmodels.handlers.estimator import current_step
from ppl_genmodels.objectives import Exponential, Objective

Units = Literal["Bernoulli", "categorical"]

UNITS, GROUPS, CLASSES = 200, 20, 10
"""200 bits, or 20 variables of 10 classes each."""
ESTIMATORS = (
    "score function",
    "DARN",
    "MuProp",
    "straight-through",
    "annealed straight-through",
    "Gumbel-Softmax",
    "straight-through Gumbel-Softmax",
)
SLOPE = 2.0
"""Where the slope of annealed straight-through goes from 1, within the first half of a fit."""


def units_of(kind: Units, logits: Tensor) -> Any:
    """A layer of units as a distribution, from 200 logits in the last dim."""
    if kind == "Bernoulli":
        return dist.Bernoulli(logits=logits).to_event(1)
    return dist.OneHotCategorical(logits=logits.unflatten(-1, (GROUPS, CLASSES))).to_event(1)


def values_of(kind: Units, drawn: Tensor) -> Tensor:
    """What a layer of units hands on: 200 numbers in the last dim."""
    return drawn if kind == "Bernoulli" else drawn.flatten(-2)


class Sloped(StraightThroughMass):
    """The discrete distribution, whose draws have the gradient of a steeper one's probabilities."""

    def __init__(self, discrete: Any, slope: Tensor) -> None:
        super().__init__(discrete)
        self.slope = slope

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A draw; the same as the discrete distribution's own."""
        steeper = self.slope * self.logits
        smooth = steeper.sigmoid() if isinstance(self.discrete, Bernoulli) else steeper.softmax(-1)
        return super().rsample(sample_shape).detach() + (smooth - smooth.detach())


class AnnealedStraightThrough(handlers.StraightThrough):
    """Straight through with a slope that grows, after Chung, Ahn and Bengio (2017).

    The library leaves it out; this is how an estimator of one's own is written.
    """

    def __init__(self, slope: Exponential) -> None:
        super().__init__()
        self.slope = slope

    def through(self, fn: Any) -> Sloped:
        """The distribution itself, with draws that have the gradient of a steeper one."""
        return Sloped(fn, self.slope(current_step()))


@dataclass(frozen=True)
class Experiment:
    """What differs between the two experiments.

    Attributes:
        name: Of its section.
        build: The program with a kind of units, at its first weights.
        objective: What is maximised.
        temperature: Of the relaxations, from the number of steps of the fit.
        published: For each kind of units the numbers of table 1, in the order of ``ESTIMATORS``.
    """

    name: str
    build: Callable[[Units], nn.Module]
    objective: Objective
    temperature: Callable[[int], float | Exponential]
    published: Mapping[Units, Sequence[float]]

    def estimator(self, name: str, steps: int) -> handlers.Estimator:
        """An estimator for a fit of so many steps; there is no DARN."""
        relaxed = partial(handlers.GumbelSoftmax, temperature=self.temperature(steps), density="categorical")
        makers: dict[str, Callable[[], handlers.Estimator]] = {
            "score function": handlers.ScoreFunction,
            "MuProp": handlers.MuProp,
            "straight-through": handlers.StraightThrough,
            "annealed straight-through": lambda: AnnealedStraightThrough(Exponential(1.0, SLOPE, -(-steps // 2))),
            "Gumbel-Softmax": relaxed,
            "straight-through Gumbel-Softmax": partial(relaxed, hard=True),
        }
        return makers[name]()
