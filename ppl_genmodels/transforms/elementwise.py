r"""Monotone maps of single numbers, whose parameters a network gives: affine, additive, rational-quadratic splines.

Convention of this module: parameters are unconstrained, shape (\*shape of the value, parameters), and zero makes the
identity. A map gives its value and the log of its derivative, elementwise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["Additive", "Affine", "ElementMap", "Spline"]

_LOG_SLOPE = math.log(1e-3)
"""Log-derivatives are kept within plus and minus this, softly."""
_ACROSS, _UP = 0, 1


class ElementMap(ABC):
    """A monotone map of the real line.

    Attributes:
        parameters: How many parameters each number has.
    """

    parameters: int

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the log-derivative there."""

    @abstractmethod
    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The value whose image it is, and the log-derivative of the forward direction there."""


class Additive(ElementMap):
    r""":math:`y = x + b`, which leaves volumes as they are.

    References:
        Dinh, Krueger and Bengio (2015), NICE, section 3.2.
    """

    parameters = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and zeros."""
        return x + parameters[..., 0], torch.zeros_like(x)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and zeros."""
        return y - parameters[..., 0], torch.zeros_like(y)


class Affine(ElementMap):
    r""":math:`y = e^{s} x + b`, with :math:`|s| < \log S`.

    Args:
        largest: :math:`S`, between whose inverse and itself scales stay. A smaller one, such as 3, keeps values that
            lie far from all others from costing a fortune, and trains at higher rates.

    Raises:
        OptionError: When ``largest`` is not above 1.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 3.2.

    Example:
        >>> Affine().forward(torch.tensor(2.0), torch.tensor([1.0, 0.0]))
        (tensor(3.), tensor(0.))
    """

    parameters = 2

    def __init__(self, largest: float = 1000.0) -> None:
        if not largest > 1:
            raise OptionError(f"Affine: largest={largest}, expected a scale above 1. Remedy: 3.0, or 1000.0.")
        self.log_largest = math.log(largest)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the log-scale."""
        shift, log_scale = parameters.unbind(-1)
        log_scale = soft_clip(log_scale, self.log_largest)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale.expand_as(x)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and the log-scale."""
        shift, log_scale = parameters.unbind(-1)
        log_scale = soft_clip(log_scale, self.log_largest)
        return (y - shift) * (-log_scale).exp(), log_scale.expand_as(y)


class Spline(ElementMap):
    r"""A rational-quadratic spline on :math:`[-B, B]`, the identity outside.

    Args:
        bins: How many pieces.
        bound: :math:`B`.

    Raises:
        OptionError: When ``bins`` is no positive integer.

    References:
        Durkan, Bekasov, Murray and Papamakarios (2019), Neural Spline Flows, equations 4 to 8.

    Example:
        >>> spline = Spline(bins=4)
        >>> y, ladj = spline.forward(torch.tensor(0.3), torch.ones(spline.parameters))
        >>> x, _ = spline.inverse(y, torch.ones(spline.parameters))
        >>> torch.isclose(x, torch.tensor(0.3))
        tensor(True)
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        self.bins, self.bound = check_size("Spline", "bins", bins), bound
        self.parameters = 3 * self.bins - 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the log-derivative there."""
        piece, inside = self._piece(x, parameters, _ACROSS), x.abs() < self.bound
        t = ((x.clamp(-self.bound, self.bound) - piece.left) / piece.width).clamp(0.0, 1.0)
        return torch.where(inside, piece.image(t), x), torch.where(inside, piece.log_slope(t), 0.0)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and the log-derivative of the forward direction there."""
        piece, inside = self._piece(y, parameters, _UP), y.abs() < self.bound
        t = piece.reaching(((y.clamp(-self.bound, self.bound) - piece.low) / piece.height).clamp(0.0, 1.0))
        return torch.where(inside, piece.left + piece.width * t, y), torch.where(inside, piece.log_slope(t), 0.0)

    def _piece(self, value: Tensor, parameters: Tensor, axis: int) -> _Piece:
        """The piece that a number lies on, by its place across or up."""
        sizes, slopes = parameters.split([2 * self.bins, self.bins - 1], -1)
        sizes = soft_clip(sizes.unflatten(-1, (2, self.bins)), -_LOG_SLOPE / 2).exp()  # no larger: no need of softmax
        edges = pad(sizes.cumsum(-1), (1, 0))
        total = edges[..., -1:] / (2 * self.bound)
        place = (value + self.bound).unsqueeze(-1) * total[..., axis, :]
        index = (place >= edges[..., axis, 1:-1]).sum(-1, keepdim=True)
        index = torch.cat([index, index + 1], -1)
        edges = edges.expand(*value.shape, 2, self.bins + 1).gather(-1, index.unsqueeze(-2).expand(*value.shape, 2, 2))
        slopes = pad(slopes, (1, 1)).expand(*value.shape, self.bins + 1).gather(-1, index)
        return _Piece.between(edges / total - self.bound, soft_clip(slopes, -_LOG_SLOPE).exp())


class _Piece(NamedTuple):
    """A piece of a spline: its lower left corner, its sizes, the slopes at both ends, from end to end, and the bend."""

    left: Tensor
    width: Tensor
    low: Tensor
    height: Tensor
    first: Tensor
    last: Tensor
    mean: Tensor
    bend: Tensor

    @classmethod
    def between(cls, edges: Tensor, slopes: Tensor) -> _Piece:
        r"""From the edges across and up, shape (\*, 2, 2), and the slopes there, shape (\*, 2)."""
        starts, ends = edges.unbind(-1)
        (left, low), (width, height), (first, last) = starts.unbind(-1), (ends - starts).unbind(-1), slopes.unbind(-1)
        mean = height / width
        return cls(left, width, low, height, first, last, mean, first + last - 2 * mean)

    def image(self, t: Tensor) -> Tensor:
        """Where the number at a share of the width goes."""
        return self.low + self.height * t * torch.lerp(self.first, self.mean, t) / self._below(t)

    def log_slope(self, t: Tensor) -> Tensor:
        """The log-derivative there."""
        above = torch.lerp(torch.lerp(self.first, self.mean, t), torch.lerp(self.mean, self.last, t), t)
        return (above * (self.mean / self._below(t)).square()).log()

    def reaching(self, share: Tensor) -> Tensor:
        """The share of the width at which so much of the height is reached: the root of a quadratic equation."""
        rise = 2 * self.mean * share
        turn = torch.lerp(self.first, -self.last, share)
        root = (turn * turn + rise * (2 * self.mean - rise)).sqrt()  # of a sum of squares, never zero
        return (rise / (rise + turn + root)).clamp(0.0, 1.0)

    def _below(self, t: Tensor) -> Tensor:
        return torch.addcmul(self.mean, self.bend, t - t * t)


def soft_clip(value: Tensor, bound: float) -> Tensor:
    """A smooth map into (-bound, bound) that is the identity near zero.

    Example:
        >>> soft_clip(torch.tensor([0.0, 1e6]), 2.0)
        tensor([0.0000, 2.0000])
    """
    return value / (1 + (value / bound).abs())
