r"""Where in time a diffusion's loss is large, remembered so that those times are drawn more often.

Convention of this module: times lie in [0, 1), in cells of equal length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_genmodels.networks.sizes import check_size

__all__ = ["TimeImportance"]

_UNIFORM = 0.1
"""The share of times that are drawn evenly, which bounds the weights."""


class TimeImportance(nn.Module):
    r"""The density of times proportional to the root mean square of the loss at them, a step function.

    With it the estimate of the mean loss over times has the least variance that weighing by time can give.

    Args:
        cells: Of the step function.
        decay: Of the moving average of the squared loss in a cell, for each step that visits it.

    References:
        Nichol and Dhariwal (2021), Improved Denoising Diffusion Probabilistic Models, equation 18.

    Example:
        >>> importance = TimeImportance(cells=2)
        >>> importance.remember(torch.tensor([0.1, 0.6]), torch.tensor([3.0, 1.0]))
        >>> importance.density()
        tensor([1.4500, 0.5500])
        >>> time, density = importance.times(torch.tensor([0.0, 0.5]))
        >>> time, density
        (tensor([0.0000, 0.3448]), tensor([1.4500, 1.4500]))
    """

    memory: Tensor

    def __init__(self, cells: int = 64, decay: float = 0.9) -> None:
        super().__init__()
        self.cells, self.decay = check_size("TimeImportance", "cells", cells), decay
        self.register_buffer("memory", torch.zeros(2, cells))

    def density(self) -> Tensor:
        """The density in each cell, shape (cells,), with mean one; one everywhere before anything is remembered."""
        summed, seen = self.memory
        known = (summed / seen.clamp(min=1e-12)).sqrt()
        typical = known.sum() / (seen > 0).sum().clamp(min=1)
        size = torch.where(seen > 0, known, typical) + 1e-12
        return _UNIFORM + (1 - _UNIFORM) * size / size.mean()

    def times(self, even: Tensor) -> tuple[Tensor, Tensor]:
        """Times of that density.

        Args:
            even: Numbers in [0, 1), uniform, any shape.

        Returns:
            The times and the density at each, both of the shape of ``even``.
        """
        density = self.density().to(even.dtype)
        ends = (density / self.cells).cumsum(-1)
        cell = torch.searchsorted(ends / ends[-1], even, right=True).clamp(max=self.cells - 1)
        before = (ends - density / self.cells)[cell]
        within = ((even - before) / density[cell]).clamp(0, 1 / self.cells)
        return cell / self.cells + within, density[cell]

    @torch.no_grad()
    def remember(self, time: Tensor, loss: Tensor) -> None:
        """Takes note of losses at times, both of one shape."""
        cell = (time.flatten() * self.cells).long().clamp(0, self.cells - 1)
        square = loss.detach().flatten().square().to(self.memory)
        here = torch.zeros_like(self.memory).index_add(1, cell, torch.stack([square, torch.ones_like(square)]))
        seen = here[1] > 0
        now = torch.stack([here[0] / here[1].clamp(min=1), torch.ones_like(here[1])])
        self.memory.copy_(torch.where(seen, torch.lerp(now, self.memory, self.decay), self.memory))
