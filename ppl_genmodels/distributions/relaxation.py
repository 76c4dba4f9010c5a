r"""The mathematics of relaxing one-hot and binary sites, on logits and tensors.

Convention of this module: a relaxed draw is :math:`y = \mathrm{softmax}(u)` or :math:`\sigma(u)`, where :math:`u` is
normalised: the log or the logit of the draw, not rounded. Densities are computed from :math:`u`, which does not
overflow; masses are extended linearly from vertices to all values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import clamp_probs
from torch.nn.functional import logsigmoid, softplus

__all__ = ["Bit", "Family", "OneHot"]


class Family(ABC):
    """The mathematics of one kind of site, on logits."""

    support: Any

    @abstractmethod
    def relaxed(self, logits: Tensor, shape: torch.Size, temperature: Tensor) -> Tensor:
        """The :math:`u` of a relaxed draw."""

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """The relaxed draw."""

    @abstractmethod
    def vertex(self, u: Tensor) -> Tensor:
        """The discrete value nearest to the relaxed draw."""

    @abstractmethod
    def inverse(self, value: Tensor) -> Tensor:
        """The :math:`u` of a value, which is moved inside the support where it was rounded onto its border."""

    @abstractmethod
    def density(self, logits: Tensor, u: Tensor, temperature: Tensor) -> Tensor:
        """The log-density of the relaxed draw."""

    @abstractmethod
    def mass(self, logits: Tensor, value: Tensor) -> Tensor:
        """The log-probability, linear in the value."""


class OneHot(Family):
    """Maddison, Mnih and Teh (2017), The Concrete Distribution, definition 1 and equation 25."""

    support = constraints.simplex

    def relaxed(self, logits: Tensor, shape: torch.Size, temperature: Tensor) -> Tensor:
        uniform = clamp_probs(torch.rand(shape, dtype=logits.dtype, device=logits.device))
        return ((logits - (-uniform.log()).log()) / temperature).log_softmax(-1)

    def value(self, u: Tensor) -> Tensor:
        return u.exp()

    def vertex(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u).scatter(-1, u.argmax(-1, keepdim=True), 1.0)

    def inverse(self, value: Tensor) -> Tensor:
        return value.clamp(min=torch.finfo(value.dtype).tiny).log()

    def density(self, logits: Tensor, u: Tensor, temperature: Tensor) -> Tensor:
        classes = logits.shape[-1]
        scores = (logits - temperature * u).log_softmax(-1)
        return math.lgamma(classes) + (classes - 1) * temperature.log() + (scores - u).sum(-1)

    def mass(self, logits: Tensor, value: Tensor) -> Tensor:
        return (value * logits.log_softmax(-1)).sum(-1)


class Bit(Family):
    """Maddison, Mnih and Teh (2017), The Concrete Distribution, appendix B."""

    support = constraints.unit_interval

    def relaxed(self, logits: Tensor, shape: torch.Size, temperature: Tensor) -> Tensor:
        uniform = clamp_probs(torch.rand(shape, dtype=logits.dtype, device=logits.device))
        return (logits + uniform.log() - (-uniform).log1p()) / temperature

    def value(self, u: Tensor) -> Tensor:
        return u.sigmoid()

    def vertex(self, u: Tensor) -> Tensor:
        return (u > 0).to(u.dtype)

    def inverse(self, value: Tensor) -> Tensor:
        kept = value.clamp(torch.finfo(value.dtype).tiny, 1 - torch.finfo(value.dtype).eps)
        return kept.log() - (-kept).log1p()

    def density(self, logits: Tensor, u: Tensor, temperature: Tensor) -> Tensor:
        difference = logits - temperature * u
        jacobian = softplus(u) + softplus(-u)
        return temperature.log() + difference - 2 * softplus(difference) + jacobian

    def mass(self, logits: Tensor, value: Tensor) -> Tensor:
        return value * logits + logsigmoid(-logits)
