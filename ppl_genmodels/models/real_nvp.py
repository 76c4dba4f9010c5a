r"""RealNVP: a flow of images by affine couplings of checkerboards and of channels, on several scales.

Convention of this module: sites, plate and guide as in :mod:`ppl_genmodels.models.grey_levels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro.distributions.torch_transform import ComposeTransformModule

from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.image_flow import LARGEST_SCALE, Dequantization, ImageFlow, check_halves
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms import ActNorm, Affine, OfChannels, Unsqueeze
from ppl_genmodels.transforms.image_coupling import ChannelCoupling, CheckerboardCoupling

__all__ = ["RealNVP"]


@register("real_nvp")
class RealNVP(ImageFlow):
    r"""RealNVP: density of images by couplings of checkerboards and channels on several scales.

    On each scale but the last images pass couplings of checkerboards, are squeezed, two by two places into four
    channels, pass couplings of channels, and half of the channels leave as they are, standard normal; the last scale
    has one coupling of checkerboards more. The couplings' networks have three convolutions each, and actnorm stands
    where the paper has residual networks and batch norm.

    Args:
        image_shape: (channels, height, width), both divisible by :math:`2^{\mathrm{scales} - 1}`.
        levels: How many levels a pixel has; data are multiples of 1 / (levels - 1).
        depth: Couplings of each kind on each scale.
        scales: How many scales.
        hidden: Channels in the networks of the couplings.
        dequantization: The guide: ``"uniform"`` on the cells of the levels, or ``"variational"``, a flow in them.

    Raises:
        OptionError: When a size is no positive integer, images cannot be squeezed so often, or an option is unknown.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, sections 3.4 to 3.6 and 4.1.

    Example:
        >>> import torch
        >>> program = RealNVP(image_shape=(1, 8, 8), levels=17, depth=1, hidden=8)
        >>> x = torch.randint(17, (5, 1, 8, 8)) / 16
        >>> program.guide(x).shape, program.model().shape, program.density().log_prob(16 * x + 0.5).shape
        (torch.Size([5, 1, 8, 8]), torch.Size([1, 1, 8, 8]), torch.Size([5]))
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        levels: int = 256,
        depth: int = 3,
        scales: int = 2,
        hidden: int = 64,
        dequantization: Dequantization = "uniform",
    ) -> None:
        scales = check_size("RealNVP", "scales", scales)
        image_shape = check_halves("RealNVP", image_shape, scales - 1)
        depth, hidden = check_size("RealNVP", "depth", depth), check_size("RealNVP", "hidden", hidden)
        transforms = _scale(image_shape[0], depth, scales, hidden)
        super().__init__(image_shape, levels, transforms, dequantization, hidden)


def _scale(channels: int, depth: int, scales: int, hidden: int) -> list[Any]:
    """From noise, of the shape of the images, to images of so many channels, the coarser scales first."""
    if scales == 1:
        return _couplings(CheckerboardCoupling, channels, depth + 1, hidden)
    deeper = ComposeTransformModule(_scale(2 * channels, depth, scales - 1, hidden))
    return [
        Unsqueeze().inv,
        OfChannels(deeper, 2 * channels),
        *_couplings(ChannelCoupling, 4 * channels, depth, hidden),
        Unsqueeze(),
        *_couplings(CheckerboardCoupling, channels, depth, hidden),
    ]


def _couplings(kind: Any, channels: int, count: int, hidden: int) -> list[Any]:
    """So many couplings whose parts take turns, each followed by actnorm."""
    element = Affine(LARGEST_SCALE)
    pairs = [(kind(channels, hidden, element, swap=i % 2 == 1), ActNorm(channels, event_dim=3)) for i in range(count)]
    return [layer for pair in pairs for layer in pair]
