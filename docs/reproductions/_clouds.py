"""Clouds of points in the plane whose densities are known.

Convention of this module: a cloud is a mixture of many round Gaussians of one width, along the arcs it is drawn on, or
uniform on squares; so its draws never end and the log-density of a point is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

ALONG = 1500
"""Gaussians along one arc: their distance is far below their width."""


class Cloud(Protocol):
    """Points (row, 2) whose density is known."""

    def sample(self, count: int, seed: int) -> Tensor:
        """Draws, shape (count, 2)."""

    def log_prob(self, points: Tensor) -> Tensor:
        """Log-densities, shape (row,), in nats."""


@dataclass(frozen=True)
class Dots:
    """Round Gaussians of one width about centres, shape (centre, 2), all of one weight."""

    centres: Tensor
    width: float

    def sample(self, count: int, seed: int) -> Tensor:
        """Draws."""
        generator = torch.Generator().manual_seed(seed)
        chosen = self.centres[torch.randint(len(self.centres), (count,), generator=generator)]
        return chosen + self.width * torch.randn(count, 2, generator=generator)

    def log_prob(self, points: Tensor) -> Tensor:
        """The log-density of the mixture."""
        scale = math.log(2 * math.pi * self.width**2 * len(self.centres))
        parts = [torch.cdist(some, self.centres).square() for some in points.split(1000)]
        return torch.cat([(-0.5 * part / self.width**2).logsumexp(-1) for part in parts]) - scale


@dataclass(frozen=True)
class Checkerboard:
    """Uniform on every other of four by four squares of side 1."""

    def sample(self, count: int, seed: int) -> Tensor:
        """Draws."""
        generator = torch.Generator().manual_seed(seed)
        column = torch.randint(4, (count,), generator=generator)
        row = 2 * torch.randint(2, (count,), generator=generator) + column % 2
        return torch.stack([column, row], -1) + torch.rand(count, 2, generator=generator) - 2

    def log_prob(self, points: Tensor) -> Tensor:
        """Minus log 8 on the squares."""
        column, row = (points + 2).floor().unbind(-1)
        inside = (points.abs() < 2).all(-1) & ((column + row) % 2 == 0)
        return torch.where(inside, -math.log(8.0), -math.inf)


def _arc(first: float, last: float, count: int = ALONG) -> Tensor:
    """Points of the unit circle between two angles, in the middles of equal steps."""
    angle = first + (last - first) * (torch.arange(count) + 0.5) / count
    return torch.stack([angle.cos(), angle.sin()], -1)


def clouds() -> Mapping[str, Cloud]:
    """The four clouds by name."""
    upper, circle = _arc(0, math.pi), _arc(0, 2 * math.pi)
    lower = torch.tensor([1.0, 0.5]) - upper
    eight = _arc(-math.pi / 8, 2 * math.pi - math.pi / 8, 8)
    return {
        "two moons": Dots(torch.cat([upper, lower]), 0.08),
        "rings": Dots(torch.cat([circle, 0.5 * circle]), 0.06),
        "checkerboard": Checkerboard(),
        "8 Gaussians": Dots(2 * eight, 0.2),
    }
