r"""A U-net that knows the time: images in, images out, on several scales.

Convention of this module: images are (channels, height, width); any number of batch dims stands to the left. Time lies
in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.networks.time_mlp import TimeFeatures, one_time

__all__ = ["UNet"]

_GROUPS = 8
"""Of channels, which are normalised together."""


class UNet(nn.Module):
    r"""Residual blocks on several scales, each told the time, with bridges from the way down to the way up.

    On the coarsest scale every place attends to all others. The last convolution starts at zero.

    Args:
        channels: Of the images.
        widths: Channels on each scale, the finest first, multiples of 8; each scale halves height and width.
        blocks: Residual blocks on each scale, each way.
        context_features: Length of the context; 0 for none.
        outputs: Channels of the outputs, those of the images by default.

    Raises:
        OptionError: When a size is no positive integer, a width no multiple of 8, images cannot be halved so often, or
            the context has another length than declared.

    References:
        Ronneberger, Fischer and Brox (2015), U-Net; Ho, Jain and Abbeel (2020), appendix B, for the blocks.

    Example:
        >>> network = UNet(1, widths=(8, 16))
        >>> network(torch.randn(5, 1, 8, 8), torch.rand(5)).shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = (32, 64),
        blocks: int = 1,
        context_features: int = 0,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        outputs = channels if outputs is None else check_size("UNet", "outputs", outputs)
        channels, blocks = check_size("UNet", "channels", channels), check_size("UNet", "blocks", blocks)
        sizes = check_sizes("UNet", "widths", widths)
        if any(size % _GROUPS for size in sizes):
            raise OptionError(f"UNet: widths={sizes}, expected multiples of {_GROUPS}.")
        self.context_features, known = context_features, 4 * sizes[0]
        self.time = nn.Sequential(TimeFeatures(32), nn.Linear(32, known), nn.SiLU(), nn.Linear(known, known))
        self.context = nn.Linear(context_features, known) if context_features else None
        self.enter, self.leave = nn.Conv2d(channels, sizes[0], 3, padding=1), _Leave(sizes[0], outputs)
        ins = [sizes[0], *sizes[:-1]]
        self.down = nn.ModuleList(_blocks(a, b, blocks, known) for a, b in zip(ins, sizes, strict=True))
        self.middle = nn.ModuleList([_Block(sizes[-1], sizes[-1], known), _Attention(sizes[-1])])
        self.up = nn.ModuleList(_blocks(2 * b, a, blocks, known) for a, b in zip(ins[::-1], sizes[::-1], strict=True))

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Outputs, shape (\*batch, outputs, height, width).

        Args:
            x: Images, shape (\*batch, channels, height, width).
            time: Shape (\*batch).
            context: Shape (\*batch, context_features), when declared.
        """
        batch = x.shape[:-3]
        images, known = x.reshape(-1, *x.shape[-3:]), self._known(time.expand(batch), context).flatten(0, -2)
        self._check(images)
        hidden, bridges = self.enter(images), []
        for number, blocks in enumerate(self.down):
            hidden = _through(blocks, hidden if number == 0 else nn.functional.avg_pool2d(hidden, 2), known)
            bridges.append(hidden)
        hidden = self.middle[1](self.middle[0](hidden, known))
        for number, blocks in enumerate(self.up):
            hidden = hidden if number == 0 else interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = _through(blocks, torch.cat([hidden, bridges.pop()], 1), known)
        return self.leave(hidden).reshape(*batch, -1, *x.shape[-2:])

    def _known(self, time: Tensor, context: Tensor | None) -> Tensor:
        got = 0 if context is None else context.shape[-1]
        if got != self.context_features:
            raise OptionError(
                f"UNet: expected a context of {self.context_features or 'no'} features, got {got or 'none'}. "
                f"Remedy: context_features={got}."
            )
        known = self.time(one_time(time))
        known = known if self.context is None or context is None else known + self.context(context)
        return silu(known if known.dim() > 1 else known.unsqueeze(0))

    def _check(self, images: Tensor) -> None:
        halvings = len(self.down) - 1
        if images.shape[-1] % 2**halvings or images.shape[-2] % 2**halvings:
            raise OptionError(
                f"UNet: images of {images.shape[-2]} by {images.shape[-1]} cannot be halved {halvings} times. Remedy: "
                f"fewer widths, or pad the images to multiples of {2**halvings}."
            )


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, known: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = _norm(inputs), _norm(outputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.known = nn.Linear(known, 2 * outputs)
        self.past = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, hidden: Tensor, known: Tensor) -> Tensor:
        inner = self.first(silu(self.first_norm(hidden)))
        scale, shift = self.known(known)[..., None, None].chunk(2, -3)
        inner = self.second(silu(self.second_norm(inner) * (1 + scale) + shift))
        return self.past(hidden) + inner


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.enter = _norm(channels), nn.Linear(channels, 3 * channels)
        self.leave = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        places = self.norm(hidden).flatten(-2).mT
        found = self.leave(scaled_dot_product_attention(*self.enter(places).chunk(3, -1)))
        return hidden + found.mT.reshape(hidden.shape)


class _Leave(nn.Sequential):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__(_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels)


def _blocks(inputs: int, outputs: int, count: int, known: int) -> nn.ModuleList:
    return nn.ModuleList(_Block(inputs if number == 0 else outputs, outputs, known) for number in range(count))


def _through(blocks: nn.Module, hidden: Tensor, known: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]
        hidden = block(hidden, known)
    return hidden
