r"""Bijections with parameters: a value and the log-determinant of its Jacobian in one pass.

Convention of this package: the forward direction leads from noise to data, :math:`y = f(x)`; log-determinants are those
of :math:`\partial y / \partial x`, in nats, summed over the event dims. A bijection is a module and a
:class:`torch.distributions.Transform`, so that it serves in any ``TransformedDistribution``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions.torch_transform import TransformModule
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.distributions.transforms import ComposeTransform, _InverseTransform

__all__ = ["Bijection", "Conditioned", "along", "call_and_ladj", "inverse_and_ladj", "sum_rightmost"]


class Bijection(TransformModule):
    """A bijection of real tensors with so many event dims, maybe given a context.

    A subclass says what :meth:`forward_pass` and :meth:`inverse_pass` are; the rest follows.

    Args:
        event_dim: How many dims from the right are one event: 1 for vectors, 3 for images.
    """

    bijective = True

    def __init__(self, event_dim: int = 1) -> None:
        super().__init__(cache_size=0)
        self._event_dim = event_dim
        self.domain = self.codomain = constraints.independent(constraints.real, event_dim)

    @abstractmethod
    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image of ``x``, and the log-determinant there, of its batch shape."""

    @abstractmethod
    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value whose image is ``y``, and the log-determinant of the forward direction there."""

    def forward_value(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The image of ``x`` alone, for layers whose log-determinant costs extra."""
        return self.forward_pass(x, context)[0]

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""The image of ``x``, shape (\*batch, \*event), and the log-determinant, shape (\*batch), in one pass."""
        return self.forward_pass(x, None)

    def inverse_and_ladj(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The value whose image is ``y``, and the log-determinant of the forward direction, in one pass."""
        return self.inverse_pass(y, None)

    def condition(self, context: Tensor) -> Conditioned:
        r"""The bijection given a context, shape (\*batch, features).

        Returns:
            A transform without parameters of its own.
        """
        return Conditioned(self, context)

    def _call(self, x: Tensor) -> Tensor:
        return self.forward_value(x, None)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inverse_pass(y, None)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The log-determinant at ``x``, shape (\*batch); a pass of its own."""
        return self.forward_pass(x, None)[1]


class Conditioned(Transform):
    """A bijection with its context; see :meth:`Bijection.condition`."""

    bijective = True

    def __init__(self, bijection: Bijection, context: Tensor) -> None:
        super().__init__(cache_size=0)
        self.bijection, self.context = bijection, context
        self.domain = self.codomain = bijection.domain

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Bijection.call_and_ladj`, given the context."""
        return self.bijection.forward_pass(x, self.context)

    def inverse_and_ladj(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Bijection.inverse_and_ladj`, given the context."""
        return self.bijection.inverse_pass(y, self.context)

    def _call(self, x: Tensor) -> Tensor:
        return self.bijection.forward_value(x, self.context)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inverse_and_ladj(y)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The log-determinant at ``x``."""
        return self.call_and_ladj(x)[1]


def call_and_ladj(transform: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The image of ``x`` under any transform, and the log-determinant, in one pass where the transform knows how.

    Example:
        >>> import torch
        >>> from torch.distributions.transforms import AffineTransform
        >>> call_and_ladj(AffineTransform(1.0, 2.0), torch.tensor(3.0))
        (tensor(7.), tensor(0.6931))
    """
    if isinstance(transform, ComposeTransform):
        return along(transform.parts, x, transform.domain.event_dim, forward=True)
    if isinstance(transform, _InverseTransform):
        y, ladj = inverse_and_ladj(transform.inv, x)
        return y, -ladj
    if hasattr(transform, "call_and_ladj"):
        return transform.call_and_ladj(x)
    y = transform(x)
    return y, transform.log_abs_det_jacobian(x, y)


def inverse_and_ladj(transform: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    """The value whose image is ``y``, and the log-determinant of the forward direction, in one pass where possible.

    Example:
        >>> import torch
        >>> from torch.distributions.transforms import AffineTransform
        >>> inverse_and_ladj(AffineTransform(1.0, 2.0), torch.tensor(7.0))
        (tensor(3.), tensor(0.6931))
    """
    if isinstance(transform, ComposeTransform):
        return along(transform.parts[::-1], y, transform.codomain.event_dim, forward=False)
    if isinstance(transform, _InverseTransform):
        x, ladj = call_and_ladj(transform.inv, y)
        return x, -ladj
    if hasattr(transform, "inverse_and_ladj"):
        return transform.inverse_and_ladj(y)
    x = transform.inv(y)
    return x, transform.log_abs_det_jacobian(x, y)


def sum_rightmost(value: Tensor, dims: int) -> Tensor:
    """The sum over so many dims from the right.

    Example:
        >>> import torch
        >>> sum_rightmost(torch.ones(2, 3, 4), 2)
        tensor([12., 12.])
    """
    return value.sum(tuple(range(-dims, 0))) if dims else value


def along(parts: Sequence[Any], value: Tensor, event_dim: int, forward: bool) -> tuple[Tensor, Tensor]:
    """Through transforms one after the other, of which some may have fewer event dims than all together.

    Args:
        parts: In the order in which they are passed.
        value: Where the way begins.
        event_dim: How many event dims it has there.
        forward: Whether each is called, or inverted; log-determinants are those of the forward direction either way.

    Returns:
        Where the way ends, and the sum of the log-determinants over the events of the whole.

    Example:
        >>> import torch
        >>> from torch.distributions.transforms import ExpTransform
        >>> along([ExpTransform()], torch.zeros(5, 2), 1, forward=True)[1].shape
        torch.Size([5])
    """
    total = torch.zeros((), dtype=value.dtype, device=value.device)
    for part in parts:
        value, ladj = (call_and_ladj if forward else inverse_and_ladj)(part, value)
        start, end = (part.domain, part.codomain) if forward else (part.codomain, part.domain)
        total = total + sum_rightmost(ladj, event_dim - start.event_dim)
        event_dim += end.event_dim - start.event_dim
    return value, total
