"""The denoisers that are timed: the network, its size, and the program that it is the network of.

Convention of this module: noise rises linearly from 0.0001 to 0.02 in 1000 steps, or as the continuous limit of that;
the network predicts the noise, and everyone has the same network with the same weights, moved away from where it
starts, as its last layer starts at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.flow_cases import moved
from ppl_genmodels.models import Diffusion

__all__ = ["CASES", "FIRST_RATE", "LAST_RATE", "NOISE_STEPS", "Case"]

NOISE_STEPS, FIRST_RATE, LAST_RATE = 1000, 1e-4, 0.02
SHORT: dict[str, Any] = {"solver": "midpoint", "steps": 1, "trace": "hutchinson"}
"""Of the log-density, which is evaluated once, before a program's first step, and never timed."""


@dataclass(frozen=True)
class Case:
    """A denoiser of a size.

    Attributes:
        shape: Of one datum: a vector's, or an image's.
        rows: How many are trained on or drawn at once.
        width: Of the network's blocks; of the finest scale's channels for images.
        compiled: Whether the step by hand is timed under ``torch.compile`` too, which takes long for images.
    """

    shape: tuple[int, ...]
    rows: int
    width: int
    compiled: bool = False

    @property
    def name(self) -> str:
        """As the tables show it."""
        network = "MLP" if len(self.shape) == 1 else "U-net"
        size = f"{self.shape[0]}-D" if len(self.shape) == 1 else "x".join(map(str, self.shape))
        return f"{network} of {self.width}, {size}, {self.rows} rows"

    def program(self) -> Diffusion:
        """A new program, always with the same weights.

        Example:
            >>> Case((2,), rows=3, width=8).program().generate(3, steps=2).shape
            torch.Size([3, 2])
        """
        blocks = 3 if len(self.shape) == 1 else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            program = Diffusion(self.shape, self.width, blocks, noising="linear", predicts="noise", **SHORT)
        moved(program)
        return program

    def batches(self, count: int = 8) -> list[Tensor]:
        """Batches of standard normal data, always the same."""
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(self.rows, *self.shape, generator=generator) for _ in range(count)]


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case((2,), rows=256, width=128, compiled=True),
        Case((64,), rows=256, width=256),
        Case((1, 8, 8), rows=64, width=16),
        Case((1, 28, 28), rows=32, width=32),
    )
}
"""In the order of the tables' rows."""
