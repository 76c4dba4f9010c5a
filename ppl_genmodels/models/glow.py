r"""Glow: a flow of images by steps of actnorm, 1x1 convolution and affine coupling, on several scales.

Convention of this module: sites, plate and guide as in :mod:`ppl_genmodels.models.grey_levels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro.distributions.torch_transform import ComposeTransformModule

from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.image_flow import LARGEST_SCALE, Dequantization, ImageFlow, check_halves
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms import ActNorm, Affine, InvertibleLinear, OfChannels, Unsqueeze
from ppl_genmodels.transforms.image_coupling import ChannelCoupling

__all__ = ["Glow"]


@register("glow")
class Glow(ImageFlow):
    r"""Glow: density of images by actnorm, 1x1 convolutions and couplings on several scales.

    On each scale images are squeezed, two by two places into four channels, and pass so many steps; between scales half
    of the channels leave, their mean and scale predicted from the other half by convolutions.

    Args:
        image_shape: (channels, height, width), both divisible by :math:`2^{\mathrm{scales}}`.
        levels: How many levels a pixel has; data are multiples of 1 / (levels - 1).
        depth: Steps on each scale.
        scales: How many scales.
        hidden: Channels in the networks of the couplings.
        dequantization: The guide: ``"uniform"`` on the cells of the levels, or ``"variational"``, a flow in them.

    Raises:
        OptionError: When a size is no positive integer, images cannot be squeezed so often, or an option is unknown.

    References:
        Kingma and Dhariwal (2018), Glow: Generative Flow with Invertible 1x1 Convolutions, section 3 and figure 2.

    Example:
        >>> import torch
        >>> program = Glow(image_shape=(1, 8, 8), levels=17, depth=1, hidden=8)
        >>> x = torch.randint(17, (5, 1, 8, 8)) / 16
        >>> program.guide(x).shape, program.model().shape, program.density().log_prob(16 * x + 0.5).shape
        (torch.Size([5, 1, 8, 8]), torch.Size([1, 1, 8, 8]), torch.Size([5]))
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        levels: int = 256,
        depth: int = 8,
        scales: int = 2,
        hidden: int = 64,
        dequantization: Dequantization = "uniform",
    ) -> None:
        scales = check_size("Glow", "scales", scales)
        image_shape = check_halves("Glow", image_shape, scales)
        depth, hidden = check_size("Glow", "depth", depth), check_size("Glow", "hidden", hidden)
        transforms = _scale(image_shape[0], depth, scales, hidden)
        super().__init__(image_shape, levels, transforms, dequantization, hidden)


def _scale(channels: int, depth: int, scales: int, hidden: int) -> list[Any]:
    """From noise to images of so many channels, the coarser scales first."""
    channels, kept = 4 * channels, 2 * channels
    steps = [layer for _ in range(depth) for layer in _step(channels, hidden)]
    if scales == 1:
        return [*steps, Unsqueeze()]
    deeper = ComposeTransformModule([Unsqueeze().inv, *_scale(kept, depth, scales - 1, hidden)])
    leaving = ChannelCoupling(channels, hidden, Affine(LARGEST_SCALE), swap=True)
    return [OfChannels(deeper, kept), leaving, *steps, Unsqueeze()]


def _step(channels: int, hidden: int) -> list[Any]:
    coupling = ChannelCoupling(channels, hidden, Affine(LARGEST_SCALE))
    return [coupling, InvertibleLinear(channels, event_dim=3), ActNorm(channels, event_dim=3)]
