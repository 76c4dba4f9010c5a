r"""What flows of images have in common: the flow as the prior of a continuous image, and its dequantizing guide.

Convention of this module: sites and plate as in :mod:`ppl_genmodels.models.grey_levels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import pyro.distributions as dist
import torch
from pyro.distributions.torch_transform import ComposeTransformModule
from torch import Tensor, nn
from torch.distributions.transforms import AffineTransform

from ppl_genmodels.distributions import Flow
from ppl_genmodels.distributions.quantized import CellUniform, level_of
from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.grey_levels import GreyLevels
from ppl_genmodels.networks.sizes import check_sizes
from ppl_genmodels.transforms.elementwise import Affine
from ppl_genmodels.transforms.image_coupling import CheckerboardCoupling
from ppl_genmodels.transforms.pixels import PixelSigmoid

__all__ = ["Dequantization", "ImageFlow", "check_halves"]

Dequantization = Literal["uniform", "variational"]
DEQUANTIZING_LAYERS = 4
"""Couplings of the variational guide, two for each colour of the checkerboard."""
LARGEST_SCALE = 3.0
"""How much a coupling may stretch: with more, a rare image has a gradient that overflows at high learning rates."""


class ImageFlow(GreyLevels):
    r"""A flow of continuous images of which grey levels are seen.

    .. math:: v = K \, \sigma_\alpha(f(\epsilon)), \quad \epsilon \sim \mathcal N(0, I), \quad
        x = \lfloor v \rfloor / (K - 1)

    Args:
        image_shape: (channels, height, width).
        levels: How many levels a pixel has.
        transforms: From noise to the logits of pixels.
        dequantization: The guide of the continuous image: ``"uniform"`` on the cells of the levels, or
            ``"variational"``, a flow within them given the image.
        hidden: Channels in the networks of the variational guide.

    Raises:
        OptionError: When the dequantization is neither of the two, or there are fewer than two levels.

    References:
        Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models, section 3.1; Ho and
        others (2019), Flow++, section 3.1.

    Example:
        >>> layers = [CheckerboardCoupling(1, hidden=4)]
        >>> program = ImageFlow((1, 4, 4), 17, layers, "uniform", hidden=4)
        >>> program.model().shape, program.guide(torch.zeros(5, 1, 4, 4)).shape
        (torch.Size([1, 1, 4, 4]), torch.Size([5, 1, 4, 4]))
    """

    zeros: Tensor

    def __init__(
        self,
        image_shape: Sequence[int],
        levels: int,
        transforms: Sequence[Any],
        dequantization: Dequantization,
        hidden: int,
    ) -> None:
        super().__init__(image_shape, levels)
        self.dequantization = dequantization
        self.transform, self.pixels = ComposeTransformModule(list(transforms)), PixelSigmoid(levels)
        noise_shape = self.transform.inverse_shape(torch.Size(self.image_shape))
        self.register_buffer("zeros", torch.zeros(noise_shape), persistent=False)
        self.dequantizer = nn.ModuleList(self._dequantizer(hidden))

    def density(self) -> Flow:
        """The distribution of a continuous image, with values from 0 to the number of levels."""
        return Flow(dist.Normal(self.zeros, 1.0).to_event(3), [self.transform, self.pixels])

    def within_cells(self, x: Tensor) -> Any:
        """The distribution of the guide: of continuous images given grey levels, shape (rows, \\*image_shape)."""
        level = level_of(x, self.levels)
        if self.dequantization == "uniform":
            return CellUniform(level).to_event(3)
        given = [layer.condition(2 * x - 1) for layer in self.dequantizer]  # type: ignore[operator]
        noise = dist.Normal(torch.zeros_like(level), 1.0).to_event(3)
        return Flow(noise, [*given, PixelSigmoid(1, 0.0), AffineTransform(level, 1.0)])

    def _dequantizer(self, hidden: int) -> list[nn.Module]:
        if self.dequantization not in get_args(Dequantization):
            raise OptionError(
                f"{type(self).__name__}: dequantization is 'uniform' or 'variational', got {self.dequantization!r}."
            )
        channels, layers = self.image_shape[0], range(DEQUANTIZING_LAYERS if self.dequantization != "uniform" else 0)
        return [
            CheckerboardCoupling(channels, hidden, Affine(LARGEST_SCALE), i % 2 == 1, context_channels=channels)
            for i in layers
        ]


def check_halves(owner: str, image_shape: Any, halvings: int) -> tuple[int, ...]:
    """The shape of images whose height and width can be halved so often.

    Raises:
        OptionError: When the shape is none of images, or an odd size is left before the last halving.

    Example:
        >>> check_halves("Glow", [1, 28, 28], 2)
        (1, 28, 28)
    """
    shape = check_sizes(owner, "image_shape", image_shape, length=3)
    if any(size % 2**halvings for size in shape[1:]):
        raise OptionError(
            f"{owner}: image_shape={shape} is to be squeezed {halvings} times, which needs a height and a width "
            f"divisible by {2**halvings}. Remedy: fewer scales, or pad the images."
        )
    return shape
