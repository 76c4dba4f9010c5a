"""Numbers that change with the training step: weights of terms, temperatures of relaxations.

Convention of this module: a schedule is a frozen value; called with a step, a tensor or a number, it returns a
scalar tensor, so that a traced step sees it change. Steps count from 0; after the last the end value holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError

__all__ = ["Cosine", "Cyclical", "Exponential", "Linear", "Schedule", "check_positive"]


@dataclass(frozen=True)
class Schedule:
    """A scalar that goes from ``start`` to ``end`` within ``steps`` training steps.

    Args:
        start: The value at step 0.
        end: The value from step ``steps`` on.
        steps: How many steps the change takes, at least 1.

    Raises:
        OptionError: When ``steps`` is below 1.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise OptionError(f"{type(self).__name__}: steps must be at least 1, got {self.steps}.")

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, a scalar tensor on the step's device."""
        step = torch.as_tensor(step)
        return self._at((step / self.steps).clamp(0.0, 1.0))

    def _at(self, fraction: Tensor) -> Tensor:
        raise TypeError("use Linear, Cosine, Exponential or Cyclical")

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}({self.start:g}→{self.end:g} in {self.steps})"

    def _repr_latex_(self) -> str:
        return rf"$\beta_t^{{{self.start:g}\to {self.end:g}}}$"


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line.

    Example:
        >>> Linear(0.0, 1.0, steps=10)(5)
        tensor(0.5000)
    """

    def _at(self, fraction: Tensor) -> Tensor:
        return self.start + (self.end - self.start) * fraction


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a period of a cosine: flat at both ends.

    References:
        Loshchilov and Hutter (2017), SGDR, equation 5.

    Example:
        >>> Cosine(1.0, 0.0, steps=10)(5)
        tensor(0.5000)
    """

    def _at(self, fraction: Tensor) -> Tensor:
        return self.end + (self.start - self.end) * 0.5 * (1 + torch.cos(math.pi * fraction))


@dataclass(frozen=True)
class Exponential(Schedule):
    """A constant ratio from step to step; both ends are positive.

    Raises:
        OptionError: When an end is not positive.

    References:
        Jang, Gu and Poole (2017), section 4.1, anneals the temperature so.

    Example:
        >>> Exponential(1.0, 0.25, steps=2)(1)
        tensor(0.5000)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.start, self.end) <= 0:
            raise OptionError(f"Exponential: start and end must be positive, got {self.start} and {self.end}.")

    def _at(self, fraction: Tensor) -> Tensor:
        return self.start * torch.exp(fraction * math.log(self.end / self.start))


@dataclass(frozen=True)
class Cyclical(Schedule):
    """A line that restarts: in each of ``cycles`` equal parts it rises in the first half and holds in the second.

    Args:
        cycles: How many times it starts anew within ``steps``.

    References:
        Fu et al. (2019), Cyclical Annealing Schedule, equation 6 with R = 0.5.

    Example:
        >>> Cyclical(0.0, 1.0, steps=8, cycles=2)(5)
        tensor(0.5000)
    """

    cycles: int = 4

    def _at(self, fraction: Tensor) -> Tensor:
        within = torch.where(fraction < 1.0, (fraction * self.cycles) % 1.0, torch.ones_like(fraction))
        return self.start + (self.end - self.start) * (2 * within).clamp(max=1.0)


def check_positive(name: str, value: object, remedy: str) -> None:
    """Checks what is to be positive at every step.

    Args:
        name: Its name, for the message.
        value: A number, a scalar tensor, or a schedule, which stays between its start and its end.
        remedy: What to write instead.

    Raises:
        OptionError: When it is none of these, not positive, or not finite.

    Example:
        >>> check_positive("power", Linear(0.1, 1.0, steps=10), "such as 0.5")
    """
    if isinstance(value, Schedule):
        values = [value.start, value.end]
    elif isinstance(value, Tensor) and value.numel() == 1:
        values = [float(value.detach())]
    elif isinstance(value, int | float):
        values = [float(value)]
    else:
        raise OptionError(f"{name} is a number, a scalar tensor or a schedule, got {value!r}.")
    if not all(each > 0 and math.isfinite(each) for each in values):
        raise OptionError(f"{name} must be positive and finite, got {value}. Remedy: {remedy}.")
