r"""Monotone maps of single numbers, whose parameters a network gives: affine, additive, rational-quadratic splines.

Convention of this module: parameters are unconstrained, shape (\*shape of the value, parameters), and zero makes the
identity. A map gives its value and the log of its derivative, elementwise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_genmodels.networks.sizes import check_size

__all__ = ["Additive", "Affine", "ElementMap", "Spline"]

_LOG_SLOPE = math.log(1e-3)
"""Log-derivatives are kept within plus and minus this, softly."""


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
    r""":math:`y = e^{s} x + b`, with :math:`|s| < \log 1000`.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 3.2.

    Example:
        >>> Affine().forward(torch.tensor(2.0), torch.tensor([1.0, 0.0]))
        (tensor(3.), tensor(0.))
    """

    parameters = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the log-scale."""
        shift, log_scale = parameters[..., 0], soft_clip(parameters[..., 1], -_LOG_SLOPE)
        return x * log_scale.exp() + shift, log_scale.expand_as(x)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and the log-scale."""
        shift, log_scale = parameters[..., 0], soft_clip(parameters[..., 1], -_LOG_SLOPE)
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
        across, up, slopes = self._knots(parameters)
        inside, piece = self._piece(x, across)
        left, width, low, height, first, last = self._of_piece(piece, across, up, slopes)
        t = ((torch.where(inside, x, 0.0) - left) / width).clamp(0.0, 1.0)
        mean = height / width
        below = mean + (first + last - 2 * mean) * t * (1 - t)
        y = low + height * (mean * t**2 + first * t * (1 - t)) / below
        return torch.where(inside, y, x), torch.where(inside, _log_slope(t, mean, first, last, below), 0.0)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and the log-derivative of the forward direction there."""
        across, up, slopes = self._knots(parameters)
        inside, piece = self._piece(y, up)
        left, width, low, height, first, last = self._of_piece(piece, across, up, slopes)
        mean, above = height / width, torch.where(inside, y, 0.0) - low
        bend = first + last - 2 * mean
        a, b, c = height * (mean - first) + above * bend, height * first - above * bend, -mean * above
        t = (2 * c / (-b - (b**2 - 4 * a * c).clamp(min=0.0).sqrt())).clamp(0.0, 1.0)
        below = mean + bend * t * (1 - t)
        ladj = _log_slope(t, mean, first, last, below)
        return torch.where(inside, left + width * t, y), torch.where(inside, ladj, 0.0)

    def _knots(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the pieces meet, across and up, and the slopes there."""
        widths, heights, slopes = parameters.split([self.bins, self.bins, self.bins - 1], -1)
        across, up = (self._edges(soft_clip(each, -_LOG_SLOPE / 2)) for each in (widths, heights))
        return across, up, pad(soft_clip(slopes, -_LOG_SLOPE), (1, 1)).exp()

    def _edges(self, sizes: Tensor) -> Tensor:
        return self.bound * (2 * pad(sizes.softmax(-1).cumsum(-1), (1, 0)) - 1)

    def _piece(self, value: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a number lies inside, and on which piece."""
        inside = (value > -self.bound) & (value < self.bound)
        piece = (value.unsqueeze(-1) >= edges[..., 1:-1]).sum(-1, keepdim=True)
        return inside, piece

    @staticmethod
    def _of_piece(piece: Tensor, across: Tensor, up: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
        """Left edge, width, lower edge, height, and the slopes at both ends."""

        def at(values: Tensor, index: Tensor) -> Tensor:
            return values.expand(*index.shape[:-1], values.shape[-1]).gather(-1, index).squeeze(-1)

        left, right = at(across, piece), at(across, piece + 1)
        low, high = at(up, piece), at(up, piece + 1)
        return left, right - left, low, high - low, at(slopes, piece), at(slopes, piece + 1)


def soft_clip(value: Tensor, bound: float) -> Tensor:
    """A smooth map into (-bound, bound) that is the identity near zero.

    Example:
        >>> soft_clip(torch.tensor([0.0, 1e6]), 2.0)
        tensor([0.0000, 2.0000])
    """
    return value / (1 + (value / bound).abs())


def _log_slope(t: Tensor, mean: Tensor, first: Tensor, last: Tensor, below: Tensor) -> Tensor:
    above = last * t**2 + 2 * mean * t * (1 - t) + first * (1 - t) ** 2
    return 2 * mean.log() + above.log() - 2 * below.log()
