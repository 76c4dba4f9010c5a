"""A swiss roll in the plane whose density is known.

Convention of this module: the roll is that of scikit-learn without its depth, moved and scaled to mean 0 and variance 1
(a mean over both coordinates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from sklearn.datasets import make_swiss_roll
from torch import Tensor

ALONG = 40_000
"""Points along the roll, whose distance is a quarter of its width or less."""


@dataclass(frozen=True)
class SwissRoll:
    """Points (row, 2) near a spiral of one and a half turns.

    Attributes:
        noise: Standard deviation of the noise about the spiral before it is scaled, as scikit-learn has it.
    """

    noise: float

    @cached_property
    def _spiral(self) -> Tensor:
        angle = 1.5 * math.pi * (1 + 2 * (torch.arange(ALONG, dtype=torch.float64) + 0.5) / ALONG)
        return torch.stack([angle * angle.cos(), angle * angle.sin()], -1)

    @cached_property
    def _scale(self) -> float:
        return math.sqrt(self._spiral.var(0, correction=0).mean().item() + self.noise**2)

    @property
    def width(self) -> float:
        """Standard deviation of the noise about the scaled spiral."""
        return self.noise / self._scale

    def sample(self, count: int, seed: int) -> Tensor:
        """Draws, shape (count, 2)."""
        points, _ = make_swiss_roll(count, noise=self.noise, random_state=seed)
        centred = torch.as_tensor(points[:, [0, 2]]) - self._spiral.mean(0)
        return (centred / self._scale).float()

    def log_prob(self, points: Tensor) -> Tensor:
        """Log-densities, shape (row,), in nats, by the sum over the spiral."""
        centres = (self._spiral - self._spiral.mean(0)) / self._scale
        parts = [torch.cdist(some, centres).square() for some in points.double().split(500)]
        logs = torch.cat([(-0.5 * part / self.width**2).logsumexp(-1) for part in parts])
        return logs - math.log(2 * math.pi * self.width**2 * ALONG)
