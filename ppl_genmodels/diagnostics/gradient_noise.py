r"""The noise of a gradient, and what can be said of its bias.

Convention of this module: gradients are vectors of D coordinates. Calls are put into groups, whose means are kept. With
the covariance :math:`\Sigma` of the mean deviation :math:`\hat b` from the exact gradient, :math:`|\hat b|^2 -
\mathrm{tr}\, \Sigma` is an unbiased estimate of the squared length of the bias. There is one test for all coordinates:
without bias that estimate is near to a shifted and scaled chi-squared variable with the same first three moments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from scipy import stats
from torch import Tensor

__all__ = ["LEVEL", "SMALL", "Bias", "Noise", "bias_of", "exact"]

GROUPS, FEWEST_GROUPS, NUMBERS = 50, 20, 5_000_000
"""At most so many groups; where they would hold more numbers than this, fewer, but not fewer than that."""

ROUNDING = 1e-5
"""Of the gradient's length: what single precision leaves of sums over some thousand operations, 2^-24 of each."""

LEVEL = 0.001
"""The chance that some unbiased estimator of a table is called biased."""

SMALL = 0.1
"""A bias below this share of the gradient's length is small enough to call an estimator unbiased."""

Verdict = Literal["unbiased", "biased", "not told apart from 0"]


class Noise:
    """Gathers the gradients of one way, call by call.

    Args:
        calls: How many there will be.
        centre: Something near their mean; squares are taken from there.

    Example:
        >>> noise = Noise(4, torch.zeros(1))
        >>> for value in (1.0, 2.0, 1.0, 2.0):
        ...     noise.add(torch.tensor([value]), seconds=0.1)
        >>> round(noise.variance, 3), noise.mean.item()
        (0.333, 1.5)
    """

    def __init__(self, calls: int, centre: Tensor) -> None:
        self.calls, self._centre = calls, centre
        self._groups = min(calls, GROUPS, max(FEWEST_GROUPS, NUMBERS // len(centre)))
        self._sums = centre.new_zeros(self._groups, len(centre), dtype=torch.float32)
        self._squares: list[Tensor] = []
        self.seconds: list[float] = []

    def add(self, gradient: Tensor, seconds: float) -> None:
        """One call."""
        deviation = gradient - self._centre
        self._sums[len(self._squares) * self._groups // self.calls] += deviation
        self._squares.append(deviation.square().sum(dtype=torch.float64))
        self.seconds.append(seconds)

    @property
    def mean(self) -> Tensor:
        """The mean gradient."""
        return self._centre + self._deviation

    @property
    def _deviation(self) -> Tensor:
        return self._sums.sum(0, dtype=torch.float64) / self.calls

    @property
    def variance(self) -> float:
        """The trace of the covariance of one gradient."""
        squares = torch.stack(self._squares).mean() - self._deviation.square().sum()
        return float(squares.clamp(min=0.0)) * self.calls / (self.calls - 1)

    @property
    def variance_error(self) -> float:
        """The standard error of the variance."""
        return float(torch.stack(self._squares).std()) / math.sqrt(self.calls)

    @property
    def length(self) -> float:
        """The root of the mean square length of a gradient, noise and all."""
        return math.sqrt(float(self.mean.square().sum()) + self.variance)

    def groups(self) -> Tensor:
        """The means of the groups, shape (groups, D)."""
        number = torch.arange(self.calls) * self._groups // self.calls
        size = torch.bincount(number, minlength=self._groups).to(self._sums.device)
        return self._centre + self._sums.double() / size.unsqueeze(-1)


@dataclass(frozen=True)
class Bias:
    """What is known of a bias.

    Attributes:
        length: Its length, from an unbiased estimate of its square; 0 where that is negative.
        error: What one standard error of the square adds to the length.
        square: The unbiased estimate of the squared length.
        square_error: The standard error of that.
        chance: Of so large a square without any bias.
    """

    length: float
    error: float
    square: float
    square_error: float
    chance: float

    def verdict(self, gradient_length: float, tests: int, declared: bool) -> Verdict:
        """What to say of it.

        Args:
            gradient_length: The length of the exact gradient.
            tests: How many verdicts are given together.
            declared: Whether the estimator says that it is biased; then it is never called unbiased.
        """
        if self.chance < LEVEL / tests:
            return "biased"
        most = math.sqrt(max(self.square, 0.0) + 3 * self.square_error)
        return "unbiased" if not declared and most <= SMALL * gradient_length else "not told apart from 0"


def exact(gradient: Tensor) -> Tensor:
    """The groups of a reference without noise."""
    return gradient.double().unsqueeze(0)


def bias_of(noise: Noise, reference: Tensor) -> Bias:
    """The bias of a way.

    Args:
        noise: Its gradients.
        reference: The means of the groups of another way, shape (groups, D); one group for the exact gradient.

    References:
        Zhang, Guo, Zhou and Cheng (2020), A simple two-sample test in high dimensions based on L2-norm, for the test
        with three moments; here the covariance is estimated, so that the chi-squared variable becomes an F variable.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> noise = Noise(100, torch.zeros(3))
        >>> for _ in range(100):
        ...     noise.add(torch.randn(3) + 1.0, seconds=0.1)
        >>> bias = bias_of(noise, exact(torch.zeros(3)))
        >>> bias.verdict(gradient_length=1.0, tests=1, declared=False), abs(bias.length - 3**0.5) < 3 * bias.error
        ('biased', True)
    """
    own = noise.groups()
    deviation = own.mean(0) - reference.mean(0)
    factors = [_factor(groups) for groups in (own, reference) if len(groups) > 1]
    traces = [float(factor.square().sum()) for factor in factors]
    freedom = sum(traces) ** 2 / max(sum(t**2 / (len(f) - 1) for t, f in zip(traces, factors, strict=True)), 1e-300)
    moments = _traces_of_powers(torch.cat(factors), max(freedom, 2.0))
    rounding = (ROUNDING * noise.length) ** 2
    first, second, third = (moment + rounding**power for power, moment in enumerate(moments, start=1))
    square = float(deviation.square().sum()) - first
    along = float((torch.cat(factors) @ deviation).square().sum())
    directions = second**3 / third**2 if third > 0 else 1.0
    standard = square / math.sqrt(2 * second) if second > 0 else 0.0
    chance = float(stats.f.sf(1 + standard * math.sqrt(2 / directions), directions, max(freedom, 2.0)))
    length, error = math.sqrt(max(square, 0.0)), math.sqrt(4 * along + 2 * second)
    return Bias(length, math.sqrt(max(square, 0.0) + error) - length, square, error, chance)


def _factor(groups: Tensor) -> Tensor:
    r"""A matrix F with F^T F the covariance of the mean of groups."""
    count = len(groups)
    return (groups - groups.mean(0)) / math.sqrt(count * (count - 1))


def _traces_of_powers(factor: Tensor, freedom: float) -> tuple[float, float, float]:
    """Estimates of the traces of a covariance, of its square and of its cube, known with so many degrees of freedom.

    The expected powers of a Wishart matrix, solved for those of its mean.
    """
    gram = factor @ factor.T
    powers = [float(gram.diagonal().sum()), float((gram @ gram).diagonal().sum())]
    powers.append(float((gram @ gram @ gram).diagonal().sum()))
    n, first = freedom, powers[0]
    second = (powers[1] - first**2 / n) * n**2 / ((n - 1) * (n + 2))
    second = min(max(second, first**2 / 1e9), first**2)
    third = (powers[2] - 3 * (1 / n + 1 / n**2) * first * second - first**3 / n**2) / (1 + 3 / n + 4 / n**2)
    return first, second, min(max(third, second**2 / first if first else 0.0), second**1.5)
