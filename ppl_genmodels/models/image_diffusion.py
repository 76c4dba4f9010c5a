r"""Diffusion of images with levels: the probability of grey levels, as flows of images and VAEs give it.

Convention of this module: sites and plate as in :mod:`ppl_genmodels.models.grey_levels`; the diffusion has its pixels
between -1 and 1. It is fitted by ``objectives.denoising()``, whose value bounds the log-probability of the levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions.transforms import AffineTransform

from ppl_genmodels.distributions import samplers
from ppl_genmodels.distributions.diffusion import Diffusion as DiffusionDistribution
from ppl_genmodels.distributions.flow import Flow
from ppl_genmodels.distributions.quantized import CellUniform, level_of
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import data_array
from ppl_genmodels.models.diffusion import denoising_for, noising_of
from ppl_genmodels.models.grey_levels import GreyLevels
from ppl_genmodels.networks import Denoiser, LearnedNoising, UNet
from ppl_genmodels.networks.denoiser import Predicts
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.objectives import Objective
from ppl_genmodels.transforms import ProbabilityFlow

__all__ = ["ImageDiffusion"]


@register("image_diffusion")
class ImageDiffusion(GreyLevels):
    r"""Diffusion of images whose grey levels are seen, dequantized uniformly.

    .. math:: v = \tfrac K2 (1 + u), \quad u \sim p(u), \quad x = \lfloor v \rfloor / (K - 1)

    Args:
        image_shape: (channels, height, width); of multiples of :math:`2^{scales - 1}`.
        levels: How many levels a pixel has.
        width: Channels of the finest scale.
        blocks: Residual blocks on each scale.
        scales: How often, less one, images are halved; each scale has twice the channels of the one before.
        noising: As :class:`~ppl_genmodels.models.Diffusion` has it. The learned one begins with an eighth of a level's
            cell and serves the bound; the others serve pictures, and their least noise is wide for 256 levels.
        predicts: What the network's output stands for.
        data_scale: The standard deviation of the pixels between -1 and 1, about.
        learned_variance: Whether the variance of the chain's steps is learned.
        solver: Of the probability flow.
        steps: Of a solver that is not adaptive.
        trace: Of the probability flow's log-density.

    Raises:
        OptionError: When a size is no positive integer, there are fewer than two levels, or an option is none of those
            named.

    References:
        Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models; Song, Durkan, Murray and Ermon (2021),
        Maximum Likelihood Training of Score-Based Diffusion Models, section 5, for the dequantization; Kingma,
        Salimans, Poole and Ho (2021), Variational Diffusion Models, appendix C, for periodic features of the pixels.

    Example:
        >>> from ppl_genmodels.objectives import denoising
        >>> program = ImageDiffusion((1, 8, 8), levels=17, width=8)
        >>> denoising("v").loss(program, torch.zeros(5, 1, 8, 8)).shape
        torch.Size([])
        >>> program.generate(5, steps=4).shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        levels: int = 256,
        width: int = 32,
        blocks: int = 1,
        scales: int = 2,
        noising: str = "learned",
        predicts: Predicts = "velocity",
        data_scale: float = 0.5,
        learned_variance: bool = False,
        solver: str = "dopri5",
        steps: int = 20,
        trace: str = "hutchinson",
    ) -> None:
        super().__init__(check_sizes("ImageDiffusion", "image_shape", image_shape, length=3), levels)
        given = {"width": width, "blocks": blocks, "scales": scales}
        sizes = {name: check_size("ImageDiffusion", name, size) for name, size in given.items()}
        network = _Phases(self.image_shape, levels, data_scale, 2 if learned_variance else 1, **sizes)
        noise = (
            LearnedNoising(2 * math.log(4 * levels)) if noising == "learned" else noising_of("ImageDiffusion", noising)
        )
        denoiser = Denoiser(network, noise, predicts, 3, data_scale, learned_variance)
        self.flow = ProbabilityFlow(denoiser, self.image_shape, solver=solver, steps=steps, trace=trace)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``image_shape``, the fewest ``levels`` that have every value, and ``data_scale``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, channels, height, width)``.
        """
        options = super().options_for(data)
        return options | {"data_scale": 2 * float(np.nanstd(data_array(data, "x", cls.__name__)))}

    def default_objective(self) -> Objective:
        """As :class:`~ppl_genmodels.models.Diffusion` has it."""
        return denoising_for(self.flow.denoiser, "v")

    def density(self) -> Flow:
        """The distribution of a continuous image, with values from 0 to the number of levels."""
        diffusion = DiffusionDistribution(self.flow)
        to_levels = AffineTransform(0.5 * self.levels, 0.5 * self.levels)
        return Flow(diffusion.base_dist, [*diffusion.transforms, to_levels])

    def within_cells(self, x: Tensor) -> Any:
        """Uniform on the cells of the grey levels."""
        return CellUniform(level_of(x, self.levels)).to_event(3)

    def centred(self, x: Tensor) -> Tensor:
        """Grey levels, dequantized at random, as pixels between -1 and 1, which are what the diffusion has as data."""
        return 2 / self.levels * self.within_cells(x).sample() - 1

    @torch.no_grad()
    def generate(self, rows: int, sampler: samplers.Sampler = "dpm_solver", steps: int = 20) -> Tensor:
        """Draws grey levels by a sampler of few steps.

        Args:
            rows: How many images.
            sampler: As :func:`~ppl_genmodels.distributions.samplers.generate` has them.
            steps: Of the sampler.

        Returns:
            Images of grey levels between 0 and 1, ``(rows, *image_shape)``.
        """
        noise = torch.randn(rows, *self.image_shape, dtype=self.like.dtype, device=self.like.device)
        found = 0.5 * self.levels * (1 + samplers.generate(self.flow.denoiser, noise, sampler, steps))
        return found.floor().clamp(0, self.levels - 1) / (self.levels - 1)


class _Phases(nn.Module):
    """A U-net that is told the place of each pixel within the cell of its level, which it could not see so finely."""

    def __init__(
        self,
        image_shape: Sequence[int],
        levels: int,
        data_scale: float,
        copies: int,
        width: int,
        blocks: int,
        scales: int,
    ) -> None:
        super().__init__()
        self.levels, self.data_scale, channels = levels, data_scale, image_shape[0]
        widths = [width * 2**scale for scale in range(scales)]
        self.network = UNet(3 * channels, widths, blocks, outputs=copies * channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        # The input is the noisy image over its scale, which is the data's where noise is so little that levels show.
        phase = math.pi * self.levels * (self.data_scale * x + 1)
        found: Tensor = self.network(torch.cat([x, phase.sin(), phase.cos()], -3), time)
        return found
