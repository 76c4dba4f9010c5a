"""The families of discrete sites: for each discrete support the distribution of its draws.

Convention of this module: ``event`` is the shape of one draw as the site declares it; a family of
scalars serves events of any shape, with independent coordinates.
"""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.nn import functional

from ppl_genmodels.guides.families.base import Distribution, Family

__all__ = [
    "BernoulliFamily",
    "BinomialFamily",
    "CategoricalFamily",
    "MultinomialFamily",
    "OneHotFamily",
    "PoissonFamily",
]


class _Scalars(Family):
    """Independent discrete coordinates with a number of parameters each."""

    per_coordinate = 1

    def __init__(self, event_shape: Size) -> None:
        self.event_shape = event_shape
        self.width = event_shape.numel()
        self.parameters = self.width * self.per_coordinate

    def _by_coordinate(self, parameters: Tensor) -> Tensor:
        """Parameters with the event's own dims, shape (*batch, *event, per_coordinate)."""
        return parameters.reshape(*parameters.shape[:-1], *self.event_shape, self.per_coordinate)

    def _flat(self, value: Tensor) -> Tensor:
        batch = value.shape[: value.dim() - len(self.event_shape)]
        return value.reshape(*batch, self.event_shape.numel())


class BernoulliFamily(_Scalars):
    """Bernoulli coordinates by their logits.

    Example:
        >>> BernoulliFamily(Size([3])).distribution(torch.zeros(5, 3)).event_shape
        torch.Size([3])
    """

    def distribution(self, parameters: Tensor) -> Distribution:
        """Bernoulli coordinates."""
        logits = self._by_coordinate(parameters).squeeze(-1)
        return dist.Bernoulli(logits=logits).to_event(len(self.event_shape))

    def embed(self, value: Tensor) -> Tensor:
        """The value itself."""
        return self._flat(value)


class CategoricalFamily(_Scalars):
    """Categorical coordinates by their logits.

    Args:
        event_shape: Shape of one draw.
        categories: How many values a coordinate can take, counted from 0.

    Example:
        >>> CategoricalFamily(Size(), 3).embed(torch.tensor([2]))
        tensor([[0., 0., 1.]])
    """

    def __init__(self, event_shape: Size, categories: int) -> None:
        self.per_coordinate = categories
        super().__init__(event_shape)
        self.width = self.parameters

    def distribution(self, parameters: Tensor) -> Distribution:
        """Categorical coordinates."""
        logits = self._by_coordinate(parameters)
        return dist.Categorical(logits=logits).to_event(len(self.event_shape))

    def embed(self, value: Tensor) -> Tensor:
        """The value one-hot."""
        categories = torch.arange(self.per_coordinate, device=value.device)
        one_hot = self._flat(value).unsqueeze(-1) == categories
        return one_hot.flatten(-2).to(torch.get_default_dtype())


class BinomialFamily(_Scalars):
    """Binomial coordinates by their logits, with the prior's number of trials.

    Args:
        event_shape: Shape of one draw.
        total: Number of trials, one number or broadcastable to (*batch, *event).

    Example:
        >>> BinomialFamily(Size(), 4).distribution(torch.zeros(5, 1)).mean
        tensor([2., 2., 2., 2., 2.])
    """

    def __init__(self, event_shape: Size, total: float | Tensor) -> None:
        super().__init__(event_shape)
        self.total = torch.as_tensor(total)

    def distribution(self, parameters: Tensor) -> Distribution:
        """Binomial coordinates."""
        logits = self._by_coordinate(parameters).squeeze(-1)
        total = self.total.to(logits)
        return dist.Binomial(total, logits=logits).to_event(len(self.event_shape))

    def embed(self, value: Tensor) -> Tensor:
        """The value as a fraction of the trials."""
        return self._flat(value / self.total.to(value.device).clamp(min=1))


class PoissonFamily(_Scalars):
    r"""Poisson coordinates, the rate being the softplus of the parameter; 1 before any training.

    Example:
        >>> PoissonFamily(Size()).embed(torch.tensor([0.0]))
        tensor([[0.]])
    """

    def distribution(self, parameters: Tensor) -> Distribution:
        """Poisson coordinates."""
        raw = self._by_coordinate(parameters).squeeze(-1)
        rate = functional.softplus(raw) + torch.finfo(raw.dtype).eps
        return dist.Poisson(rate).to_event(len(self.event_shape))

    def embed(self, value: Tensor) -> Tensor:
        """The logarithm of one more than the value."""
        return self._flat(value).log1p()

    def initial(self) -> Tensor:
        """Rates 1."""
        return torch.full((self.parameters,), math.log(math.expm1(1.0)))


class OneHotFamily(Family):
    """One-hot vectors by their logits.

    Args:
        event_shape: Shape of one draw; its last dim holds the categories.

    Example:
        >>> OneHotFamily(Size([3])).distribution(torch.zeros(5, 3)).event_shape
        torch.Size([3])
    """

    def __init__(self, event_shape: Size) -> None:
        self.event_shape = event_shape
        self.parameters = self.width = event_shape.numel()

    def distribution(self, parameters: Tensor) -> Distribution:
        """One-hot vectors along the last dim."""
        logits = parameters.reshape(*parameters.shape[:-1], *self.event_shape)
        return dist.OneHotCategorical(logits=logits).to_event(len(self.event_shape) - 1)

    def embed(self, value: Tensor) -> Tensor:
        """The value itself."""
        return value.flatten(value.dim() - len(self.event_shape))


class MultinomialFamily(OneHotFamily):
    """Vectors of counts by the logits of their categories, with the prior's total.

    Args:
        event_shape: Shape of one draw; its last dim holds the categories.
        total: Sum of every vector.

    Example:
        >>> MultinomialFamily(Size([3]), 6).distribution(torch.zeros(3)).mean
        tensor([2., 2., 2.])
    """

    def __init__(self, event_shape: Size, total: int) -> None:
        super().__init__(event_shape)
        self.total = total

    def distribution(self, parameters: Tensor) -> Distribution:
        """Vectors of counts along the last dim."""
        logits = parameters.reshape(*parameters.shape[:-1], *self.event_shape)
        return dist.Multinomial(self.total, logits=logits).to_event(len(self.event_shape) - 1)

    def embed(self, value: Tensor) -> Tensor:
        """The value as fractions of the total."""
        return super().embed(value) / max(self.total, 1)
