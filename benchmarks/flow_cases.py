"""The flows that are timed: their family, their size, and what every library gives for them.

Convention of this module: the same number of layers, hidden widths and bins in every library; all parameters are moved
away from where a library starts them, because a flow that starts as the identity is not what is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["BINS", "BOUND", "CASES", "HIDDEN", "IMAGE", "LAYERS", "TOLERANCE", "Case", "Density", "Family", "moved"]

Family = Literal["MAF", "NSF", "RealNVP", "spline coupling", "Glow", "continuous"]
"""Masked autoregressive (affine), autoregressive splines, affine couplings, spline couplings, Glow's step for images
(affine channel coupling, 1x1 convolution, ActNorm), and a continuous flow by an adaptive solver and the exact trace."""

LAYERS: dict[Family, int] = {"MAF": 3, "NSF": 3, "RealNVP": 6, "spline coupling": 6, "Glow": 4, "continuous": 1}
HIDDEN = (64, 64)
"""Widths of each network; of channels between the three convolutions of Glow's."""
BINS, BOUND = 8, 5.0
IMAGE = (4, 14, 14)
TOLERANCE = 1e-5
"""Of the solver, relative and absolute."""


@dataclass(frozen=True)
class Case:
    """A flow of a size.

    Attributes:
        family: What its layers are.
        features: Length of a vector; of an image, how many numbers it has.
        rows: How many are evaluated or drawn at once.
        compiled: Whether training is timed under compilers too, which take minutes for splines in any library.
        draws: Whether drawing is timed: some libraries take seconds for one batch.
    """

    family: Family
    features: int
    rows: int
    compiled: bool = False
    draws: bool = True

    @property
    def name(self) -> str:
        """As the tables show it."""
        size = "x".join(map(str, IMAGE)) if self.family == "Glow" else f"{self.features}-D"
        return f"{self.family}, {size}, {self.rows} rows"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one datum."""
        return IMAGE if self.family == "Glow" else (self.features,)

    def batches(self, count: int = 8) -> list[Tensor]:
        """Batches of standard normal data, always the same."""
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(self.rows, *self.shape, generator=generator) for _ in range(count)]


@dataclass(frozen=True)
class Density:
    """A flow of one library.

    Attributes:
        module: Holds the parameters.
        log_prob: Of a batch, shape (rows,).
        sample: So many draws.
        sample_and_log_prob: So many draws with their log-densities, in one pass where the library has that.
        network: Counts the evaluations of a continuous flow when it is called; None for the others.
    """

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]
    sample_and_log_prob: Callable[[int], tuple[Tensor, Tensor]]
    network: nn.Module | None = None

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.module.parameters() if parameter.requires_grad)


def moved(module: nn.Module) -> nn.Module:
    """A module whose parameters are moved at random, by little, always alike.

    Example:
        >>> moved(nn.Linear(1, 1)).bias.shape
        torch.Size([1])
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return module


def _cases(family: Family) -> list[Case]:
    """Of vectors: all sizes; without the draws that take the other libraries seconds for one batch."""
    found = []
    for features, rows in ((2, 128), (2, 1024), (6, 128), (6, 1024), (64, 128), (64, 1024)):
        slow = family in ("MAF", "NSF") and (features, rows) == (64, 1024)
        compiled = family in ("MAF", "RealNVP") and (features, rows) == (6, 128)
        found.append(Case(family, features, rows, compiled, draws=not slow))
    return found


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        *_cases("MAF"),
        *_cases("NSF"),
        *_cases("RealNVP"),
        *_cases("spline coupling"),
        Case("Glow", 784, 32),
        Case("continuous", 2, 128),
        Case("continuous", 6, 128),
        Case("continuous", 6, 1024),
    )
}
"""In the order of the tables' rows."""
