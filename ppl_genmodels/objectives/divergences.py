r"""Divergences that a critic estimates from samples.

Convention of this module: :math:`p` is the first side, data or the guide's draws, :math:`q` the second, the model's
draws; scores are what a critic says of values of each, both of one shape, high where it takes them for :math:`p`'s.
Every function is entry by entry, to be averaged.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from ppl_genmodels.errors import OptionError
from ppl_genmodels.objectives.penalties import GradientPenalty

__all__ = [
    "ChiSquared",
    "Divergence",
    "Hinge",
    "JensenShannon",
    "KullbackLeibler",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "ReverseKullbackLeibler",
    "Wasserstein",
]


class Divergence(ABC):
    """What a critic maximises, and what a program minimises against it.

    Attributes:
        largest_weight: What the critic's weights are clipped to after each of its updates; None for no clipping.
    """

    largest_weight: float | None = None

    @abstractmethod
    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """What the critic maximises: at its optimum the divergence."""

    def cost(self, first: Tensor, second: Tensor) -> Tensor:
        """What the program minimises; the bound, unless it has a better gradient for it."""
        return self.bound(first, second)

    def log_ratio(self, score: Tensor) -> Tensor:
        r""":math:`\log p / q` where the critic is at its optimum.

        Raises:
            OptionError: When the optimal critic does not tell it.
        """
        raise OptionError(
            f"{type(self).__name__}: its critic does not tell the density ratio. Remedy: JensenShannon(), or any "
            f"f-divergence."
        )

    def penalty(self) -> GradientPenalty | None:
        """What the critic's bound is lessened by."""
        return None


@dataclass(frozen=True)
class JensenShannon(Divergence):
    r"""The Jensen-Shannon divergence, in nats: from 0 to :math:`\log 2`.

    References:
        Goodfellow and others (2014), Generative Adversarial Nets, theorem 1; Nowozin, Cseke and Tomioka (2016), f-GAN,
        table 6.

    Example:
        >>> JensenShannon().bound(torch.zeros(()), torch.zeros(()))
        tensor(0.)
    """

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """Of the log-odds of being the first's."""
        return math.log(2) + 0.5 * (logsigmoid(first) + logsigmoid(-second))

    def log_ratio(self, score: Tensor) -> Tensor:
        """The score."""
        return score


@dataclass(frozen=True)
class Minimax(JensenShannon):
    r"""The value of the original game plus :math:`\log 4`: twice the Jensen-Shannon divergence, in nats.

    References:
        Goodfellow and others (2014), Generative Adversarial Nets, equation 1.
    """

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """Of the log-odds of being the first's."""
        return 2 * super().bound(first, second)


@dataclass(frozen=True)
class NonSaturating(Minimax):
    r"""The original game, whose program raises its draws' log-probability of being taken for the other side's.

    That has a gradient too where the critic wins. Both sides are raised so, as in an autoencoder it is the guide's that
    the program moves.

    References:
        Goodfellow and others (2014), Generative Adversarial Nets, section 3.
    """

    def cost(self, first: Tensor, second: Tensor) -> Tensor:
        """Minus the log-probabilities of being taken for the other side's."""
        return softplus(first) + softplus(-second)


@dataclass(frozen=True)
class LeastSquares(Divergence):
    r"""An eighth of :math:`\int (p - q)^2 / (p + q)`, from 0 to a quarter; the critic tells 1 from 0.

    References:
        Mao and others (2017), Least Squares Generative Adversarial Networks, equations 2 and 9.
    """

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """Minus the squared errors, and a quarter."""
        return 0.25 - 0.5 * ((first - 1).square() + second.square())

    def cost(self, first: Tensor, second: Tensor) -> Tensor:
        """The squared errors with the targets exchanged."""
        return 0.5 * (first.square() + (second - 1).square())

    def log_ratio(self, score: Tensor) -> Tensor:
        """The log-odds of a score between 0 and 1, where it is cut off."""
        return torch.logit(score, eps=1e-6)


@dataclass(frozen=True)
class Hinge(Divergence):
    r"""Twice the total variation, :math:`\int |p - q|`, from 0 to 2.

    References:
        Lim and Ye (2017), Geometric GAN, equations 10 and 11; Miyato, Kataoka, Koyama and Yoshida (2018), equations 16
        and 17.
    """

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """Margins, and two."""
        return 2 - (1 - first).relu() - (1 + second).relu()

    def cost(self, first: Tensor, second: Tensor) -> Tensor:
        """The difference of the scores."""
        return first - second


@dataclass(frozen=True)
class KullbackLeibler(Divergence):
    r""":math:`KL(p \,\|\, q)`, in nats.

    References:
        Nowozin, Cseke and Tomioka (2016), f-GAN, tables 1 and 6; Nguyen, Wainwright and Jordan (2010), equation 14.
    """

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """By the conjugate of u log u."""
        return first - (second - 1).exp()

    def log_ratio(self, score: Tensor) -> Tensor:
        """The score less one."""
        return score - 1


@dataclass(frozen=True)
class ReverseKullbackLeibler(Divergence):
    r""":math:`KL(q \,\|\, p)`, in nats.

    References:
        Nowozin, Cseke and Tomioka (2016), f-GAN, tables 1 and 6.
    """

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """By the conjugate of -log u, of minus the ratio's inverse."""
        return 1 - (-first).exp() - second

    def log_ratio(self, score: Tensor) -> Tensor:
        """The score."""
        return score


@dataclass(frozen=True)
class ChiSquared(Divergence):
    r"""Pearson's :math:`\int (p - q)^2 / q`.

    References:
        Nowozin, Cseke and Tomioka (2016), f-GAN, tables 1 and 6.
    """

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """By the conjugate of (u - 1)²."""
        return first - second - 0.25 * second.square()

    def log_ratio(self, score: Tensor) -> Tensor:
        """Of a score above -2, where it is cut off."""
        return torch.log1p((0.5 * score).clamp(min=1e-6 - 1))


@dataclass(frozen=True)
class Wasserstein(Divergence):
    r"""The Wasserstein distance, in the units of the values, as far as the critic's slope is held at one.

    Attributes:
        gradient_penalty: Weight of the squared excess of the critic's slope over one; 0 for none, when the critic's
            weights are clipped or its layers spectrally normalized.
        one_sided: Whether slopes below one are free.
        largest_weight: What the critic's weights are clipped to after each of its updates; None for no clipping.

    References:
        Arjovsky, Chintala and Bottou (2017), Wasserstein GAN, equation 2; Gulrajani and others (2017), Improved
        Training of Wasserstein GANs, equation 3 and appendix.

    Example:
        >>> Wasserstein(gradient_penalty=10.0)
        Wasserstein(gradient_penalty=10.0, one_sided=False, largest_weight=None)
    """

    gradient_penalty: float = 0.0
    one_sided: bool = False
    largest_weight: float | None = None

    def __post_init__(self) -> None:
        if self.gradient_penalty < 0:
            raise OptionError(f"Wasserstein: gradient_penalty={self.gradient_penalty}, expected 0 or more.")
        if self.largest_weight is not None and not self.largest_weight > 0:
            raise OptionError(f"Wasserstein: largest_weight={self.largest_weight}, expected a positive number.")

    def bound(self, first: Tensor, second: Tensor) -> Tensor:
        """The difference of the scores."""
        return first - second

    def penalty(self) -> GradientPenalty | None:
        """Of slopes other than one."""
        return GradientPenalty(self.gradient_penalty, 1.0, self.one_sided) if self.gradient_penalty else None
