"""Noise for looking at a diffusion: seeded, and apart from what else was drawn with that seed.

Convention of this module: data that a user draws after ``torch.manual_seed(0)`` must not be the numbers that seed 0
gives as noise, or both would be correlated.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

__all__ = ["draw_noise", "own_seed"]


def own_seed(seed: int) -> int:
    """Another seed, the same for the same one.

    Example:
        >>> own_seed(0) == own_seed(0) != own_seed(1)
        True
    """
    return zlib.crc32(f"noise {seed}".encode())


def draw_noise(flow: Any, rows: int, generator: torch.Generator | None = None) -> Tensor:
    r"""Standard normal draws, shape (rows, \*event), with dtype and device of the flow.

    Args:
        flow: The :class:`~ppl_genmodels.transforms.ProbabilityFlow` of a denoiser.
        rows: How many.
        generator: Where they come from; torch's own by default.
    """
    base = flow.base_loc
    return torch.randn(rows, *flow.event_shape, generator=generator, dtype=base.dtype, device=base.device)
