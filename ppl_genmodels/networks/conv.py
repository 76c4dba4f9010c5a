"""Convolutional networks from images to features and back.

Convention of this module: an image is ``(channels, height, width)``; any number of batch dims
stands to the left (a plate of particles beside the rows), flattened for the convolutions and
restored after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["ConvDecoder", "ConvEncoder"]


class ConvEncoder(nn.Module):
    r"""Convolutions of stride two, then one linear layer: an image to features.

    Maps ``(..., channels, height, width)`` to ``(..., out_features)``. Each convolution halves
    height and width, rounding up, so images of any size fit.

    Args:
        image_shape: ``(channels, height, width)`` of the images.
        out_features: Number of outputs.
        channels: Output channels of each convolution, from image to features.

    Raises:
        OptionError: When a size is no positive integer.

    Example:
        >>> encoder = ConvEncoder((1, 28, 28), 20)
        >>> encoder(torch.zeros(7, 5, 1, 28, 28)).shape
        torch.Size([7, 5, 20])
    """

    def __init__(self, image_shape: Sequence[int], out_features: int, channels: Iterable[int] = (32, 64)) -> None:
        super().__init__()
        shape = check_sizes("ConvEncoder", "image_shape", image_shape, length=3)
        depths = (shape[0], *check_sizes("ConvEncoder", "channels", channels))
        height, width = _halved(shape[1:], len(depths) - 1)[-1]
        layers: list[nn.Module] = []
        for depth, following in pairwise(depths):
            layers += [nn.Conv2d(depth, following, 3, stride=2, padding=1), nn.ReLU()]
        outputs = check_size("ConvEncoder", "out_features", out_features)
        flat = depths[-1] * height * width
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, outputs))

    def forward(self, image: Tensor) -> Tensor:
        """Features of images ``(..., channels, height, width)``: ``(..., out_features)``."""
        return _with_one_batch_dim(self.layers, image, event_dim=3)


class ConvDecoder(nn.Module):
    r"""One linear layer, then upsampling convolutions: features to an image.

    Maps ``(..., in_features)`` to ``(..., channels, height, width)``. The mirror image of
    :class:`ConvEncoder`. It enlarges by repeating pixels before a plain convolution, which leaves
    no checkerboard (Odena, Dumoulin and Olah 2016, Deconvolution and Checkerboard Artifacts).

    Args:
        in_features: Number of inputs.
        image_shape: ``(channels, height, width)`` of the output.
        channels: Channels before each enlargement, from features to image.

    Raises:
        OptionError: When a size is no positive integer.

    Example:
        >>> decoder = ConvDecoder(20, (3, 9, 7))
        >>> decoder(torch.zeros(7, 5, 20)).shape
        torch.Size([7, 5, 3, 9, 7])
    """

    def __init__(self, in_features: int, image_shape: Sequence[int], channels: Iterable[int] = (64, 32)) -> None:
        super().__init__()
        shape = check_sizes("ConvDecoder", "image_shape", image_shape, length=3)
        depths = (*check_sizes("ConvDecoder", "channels", channels), shape[0])
        first, *sizes = reversed(_halved(shape[1:], len(depths) - 1))
        start = (depths[0], *first)
        layers: list[nn.Module] = []
        for depth, following, size in zip(depths[:-1], depths[1:], sizes, strict=True):
            layers += [nn.ReLU(), nn.Upsample(size=size), nn.Conv2d(depth, following, 3, padding=1)]
        inputs = check_size("ConvDecoder", "in_features", in_features)
        linear = nn.Linear(inputs, start[0] * start[1] * start[2])
        self.layers = nn.Sequential(linear, nn.Unflatten(-1, start), *layers)

    def forward(self, features: Tensor) -> Tensor:
        """Images from features ``(..., in_features)``: ``(..., channels, height, width)``."""
        return _with_one_batch_dim(self.layers, features, event_dim=1)


def _halved(size: Sequence[int], times: int) -> list[tuple[int, ...]]:
    """The size, and what is left of it after each halving, rounded up."""
    sizes = [tuple(size)]
    for _ in range(times):
        sizes.append(tuple((extent + 1) // 2 for extent in sizes[-1]))
    return sizes


def _with_one_batch_dim(network: nn.Module, value: Tensor, event_dim: int) -> Tensor:
    batch, event = value.shape[:-event_dim], value.shape[-event_dim:]
    result: Tensor = network(value.reshape(torch.Size(batch).numel(), *event))
    return result.reshape(*batch, *result.shape[1:])
