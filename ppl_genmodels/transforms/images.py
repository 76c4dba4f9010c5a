r"""Reshaping images between bijections: squeezing places into channels, and going on with a part of the channels.

Convention of this module: images are (channels, height, width); noise has the shape of the data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection, call_and_ladj, inverse_and_ladj

__all__ = ["OfChannels", "Unsqueeze"]


class Unsqueeze(Transform):
    """Four channels become two by two places: (4 C, H, W) to (C, 2 H, 2 W). Its inverse squeezes.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 3.6.

    Example:
        >>> Unsqueeze()(torch.ones(4, 2, 2)).shape
        torch.Size([1, 4, 4])
    """

    domain = codomain = constraints.independent(constraints.real, 3)
    bijective = True

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape of the image."""
        *batch, channels, height, width = shape
        return torch.Size((*batch, channels // 4, 2 * height, 2 * width))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """The shape of the value."""
        *batch, channels, height, width = shape
        return torch.Size((*batch, channels * 4, height // 2, width // 2))

    def _call(self, x: Tensor) -> Tensor:
        if x.shape[-3] % 4:
            raise OptionError(f"Unsqueeze: expected channels in fours, got images of shape {tuple(x.shape[-3:])}.")
        return torch.nn.functional.pixel_shuffle(x, 2)

    def _inverse(self, y: Tensor) -> Tensor:
        if y.shape[-1] % 2 or y.shape[-2] % 2:
            raise OptionError(
                f"Unsqueeze: squeezing halves height and width, got images of shape {tuple(y.shape[-3:])}. Remedy: pad "
                f"images to an even size, or squeeze less often."
            )
        return torch.nn.functional.pixel_unshuffle(y, 2)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Zero, shape (\*batch)."""
        return torch.zeros(x.shape[:-3], dtype=x.dtype, device=x.device)


class OfChannels(Bijection):
    """Maps the last channels by a bijection of their own and leaves the first: the multi-scale factor-out.

    Args:
        inner: The bijection, of images with so many channels, to images of the same shape.
        channels: How many channels it maps.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 3.6.

    Example:
        >>> from ppl_genmodels.transforms import ActNorm
        >>> OfChannels(ActNorm(2, event_dim=3), 2)(torch.ones(4, 8, 8)).shape
        torch.Size([4, 8, 8])
    """

    def __init__(self, inner: Any, channels: int) -> None:
        super().__init__(event_dim=3)
        self.inner, self.channels = inner, check_size("OfChannels", "channels", channels)

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        kept, moved = self._parts(x)
        y, ladj = call_and_ladj(self._given(context), moved)
        return torch.cat([kept, y], -3), ladj

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        kept, moved = self._parts(y)
        x, ladj = inverse_and_ladj(self._given(context), moved)
        return torch.cat([kept, x], -3), ladj

    def _parts(self, value: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = value.split([value.shape[-3] - self.channels, self.channels], -3)
        return kept, moved

    def _given(self, context: Tensor | None) -> Any:
        return self.inner if context is None else self.inner.condition(context)
