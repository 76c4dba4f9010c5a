"""Toys in the plane for games: narrow modes on a ring and on a grid, and a roll, and how much of each samples reach.

Convention of this module: a sample is at a toy when it is within three standard deviations of the toy's noise: of its
nearest mode, or of the roll without its noise. Parts are modes, or equal pieces of the roll; each has as much of the
data as any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from _clouds import Dots
from _roll import SwissRoll
from torch import Tensor

from ppl_genmodels import diagnostics

PIECES = 20
"""Of the roll."""
NEAR = 3.0
"""In standard deviations of the noise."""
MISSING = 0.1
"""Share of its even part of the samples below which a mode is missing, by the stricter count."""


@dataclass(frozen=True)
class Reached:
    """How much of a toy samples reach.

    Attributes:
        at: The share of the samples at each part, shape (parts,); what is left is at none.
    """

    at: Tensor

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self.at)

    @property
    def covered(self) -> int:
        """Parts that have a sample."""
        return int((self.at > 0).sum())

    @property
    def held(self) -> int:
        """Parts that have at least a tenth of what would be theirs."""
        return int((self.at >= MISSING / self.parts).sum())

    @property
    def quality(self) -> float:
        """The share of the samples that are at any part."""
        return float(self.at.sum())


class Toy(Protocol):
    """Points (row, 2) about parts that are known."""

    def sample(self, count: int, seed: int) -> Tensor:
        """Draws, shape (count, 2)."""

    def reached(self, samples: Tensor) -> Reached:
        """What samples, shape (rows, 2), reach of it."""


@dataclass(frozen=True)
class Modes(Dots):
    """Round Gaussians of one width, all of one weight."""

    def reached(self, samples: Tensor) -> Reached:
        """The modes that samples are of."""
        found = diagnostics.modes_covered(samples, self.centres, NEAR * self.width)
        return Reached(torch.as_tensor(found.counts) / len(samples))


@dataclass(frozen=True)
class Roll(SwissRoll):
    """A swiss roll in the plane, in pieces of equal angle."""

    def reached(self, samples: Tensor) -> Reached:
        """The pieces that samples are near to."""
        curve = ((self._spiral - self._spiral.mean(0)) / self._scale)[::10]
        distance, nearest = torch.cdist(samples.double(), curve).min(1)
        piece = nearest[distance <= NEAR * self.width] * PIECES // len(curve)
        return Reached(torch.bincount(piece, minlength=PIECES) / len(samples))


def ring(width: float) -> Modes:
    """Eight modes on a circle of radius 2."""
    angle = torch.arange(8) * math.pi / 4
    return Modes(2 * torch.stack([angle.cos(), angle.sin()], -1), width)


def grid(spacing: float, width: float) -> Modes:
    """Five by five modes about the origin."""
    places = spacing * torch.arange(-2.0, 3.0)
    return Modes(torch.cartesian_prod(places, places), width)


def kept_or_made(folder: Path | None, name: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What an earlier run has kept under a name, or else what is made now, which is kept.

    Args:
        folder: Where; None keeps nothing.
        name: Of the file, with all that it depends on.
        make: Makes tensors, numbers and strings by names.
    """
    path = None if folder is None else folder / f"{name}.pt"
    if path is not None and path.exists():
        kept: Mapping[str, Any] = torch.load(path, weights_only=True)
        return kept
    made = dict(make())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(made, path)
    return made
