r"""A residual network on vectors that knows the time.

Convention of this module: features are the last dim; any number of batch dims stands to the left. Time lies in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["TimeFeatures", "TimeMLP"]


class TimeFeatures(nn.Module):
    r"""Sines and cosines of the time, of frequencies from :math:`1/2` to ``highest`` periods.

    Args:
        features: How many, an even number.
        highest: The highest frequency, in periods between times 0 and 1.

    Raises:
        OptionError: When ``features`` is odd.

    References:
        Vaswani and others (2017), Attention Is All You Need, section 3.5.

    Example:
        >>> TimeFeatures(8)(torch.rand(5, 3)).shape
        torch.Size([5, 3, 8])
    """

    frequencies: Tensor

    def __init__(self, features: int, highest: float = 32.0) -> None:
        super().__init__()
        if check_size("TimeFeatures", "features", features) % 2:
            raise OptionError(f"TimeFeatures: expected an even number of features, got {features}.")
        steps = torch.linspace(math.log(0.5), math.log(highest), features // 2)
        self.register_buffer("frequencies", 2 * math.pi * steps.exp(), persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        r"""Shape (\*batch, features) for times of shape (\*batch)."""
        angles = time.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


def one_time(time: Tensor) -> Tensor:
    """The time of all rows, a scalar, where it was expanded from one; otherwise the times.

    Samplers and solvers ask for all rows at one time, whose features and scales are then computed once.

    Example:
        >>> one_time(torch.tensor(0.5).expand(4)), one_time(torch.zeros(2))
        (tensor(0.5000), tensor([0., 0.]))
    """
    return time[(0,) * time.dim()] if time.numel() > 1 and not any(time.stride()) else time


class TimeMLP(nn.Module):
    r"""Residual blocks, each told the time, between two linear layers; the last starts at zero.

    Args:
        features: Length of the vectors.
        width: Of the blocks.
        blocks: How many.
        context_features: Length of the context; 0 for none.
        outputs: Length of the outputs, that of the vectors by default.

    Raises:
        OptionError: When a size is no positive integer, or the context has another length than declared.

    References:
        He, Zhang, Ren and Sun (2016), Identity Mappings in Deep Residual Networks, section 3, for the blocks.

    Example:
        >>> TimeMLP(3, width=16)(torch.randn(5, 3), torch.rand(5)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        features: int,
        width: int = 128,
        blocks: int = 3,
        context_features: int = 0,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        features, width = check_size("TimeMLP", "features", features), check_size("TimeMLP", "width", width)
        outputs = features if outputs is None else check_size("TimeMLP", "outputs", outputs)
        self.features, self.context_features = features, context_features
        self.enter, self.leave = nn.Linear(features + context_features, width), nn.Linear(width, outputs)
        self.time = nn.Sequential(TimeFeatures(32), nn.Linear(32, width), nn.SiLU())
        self.blocks = nn.ModuleList(_Block(width) for _ in range(check_size("TimeMLP", "blocks", blocks)))
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Outputs, shape (\*batch, outputs).

        Args:
            x: Shape (\*batch, features).
            time: Shape (\*batch).
            context: Shape (\*batch, context_features), when declared.
        """
        got = 0 if context is None else context.shape[-1]
        if got != self.context_features:
            raise OptionError(
                f"TimeMLP: expected a context of {self.context_features or 'no'} features, got {got or 'none'}. "
                f"Remedy: context_features={got}."
            )
        given = x if context is None else torch.cat([x, context.expand(*x.shape[:-1], -1)], -1)
        hidden, known = self.enter(given), self.time(one_time(time))
        for block in self.blocks:
            hidden = block(hidden, known)
        return self.leave(nn.functional.silu(hidden))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.first = nn.LayerNorm(width), nn.Linear(width, width)
        self.time, self.second = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, known: Tensor) -> Tensor:
        scale, shift = self.time(known).chunk(2, -1)
        inner = self.norm(hidden) * (1 + scale) + shift
        return hidden + self.second(nn.functional.silu(self.first(nn.functional.silu(inner))))
