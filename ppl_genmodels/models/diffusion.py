r"""Diffusion models of vectors and of images: one network, seen as a distribution and as a chain of latent sites.

Convention of this module: one observed site ``x`` in the plate ``data``, whose distribution is the diffusion. It is
fitted by ``objectives.denoising()``, as its log-density takes many evaluations of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions import samplers
from ppl_genmodels.distributions.diffusion import Diffusion as DiffusionDistribution
from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_array
from ppl_genmodels.models.diffusion_chain import DiffusionChain
from ppl_genmodels.networks import (
    CosineNoising,
    Denoiser,
    EDMNoising,
    LearnedNoising,
    LinearNoising,
    Noising,
    TimeMLP,
    UNet,
)
from ppl_genmodels.networks.denoiser import Predicts
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.objectives import Objective, denoising
from ppl_genmodels.transforms import ProbabilityFlow

__all__ = ["Diffusion", "denoising_for", "diffusion_flow", "noising_of"]

CHAIN_STEPS = 1000
"""Of the chain whose variances are learned by default."""

NOISINGS: dict[str, Callable[[], Noising]] = {
    "cosine": CosineNoising,
    "linear": LinearNoising,
    "learned": LearnedNoising,
    "edm": EDMNoising,
}


@register("diffusion")
class Diffusion(nn.Module):
    r"""Diffusion of vectors or images: a denoiser, its probability flow, and its chain.

    Data should be of about unit variance, or ``data_scale`` tell theirs.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        width: Of the network's blocks: hidden units for vectors, channels of the finest scale for images.
        blocks: How many residual blocks, for images on each scale.
        scales: Of images: how often, less one, they are halved; each has twice the channels of the one before.
        noising: ``"cosine"``, ``"linear"``, ``"learned"`` or ``"edm"``.
        predicts: What the network's output stands for.
        data_scale: The data's standard deviation, about.
        learned_variance: Whether the variance of the chain's steps is learned, by ``denoising(steps=...)``.
        solver: Of the probability flow.
        steps: Of a solver that is not adaptive.
        trace: Of the probability flow's log-density: ``"exact"``, or ``"hutchinson"`` for many features.

    Raises:
        OptionError: When a size is no positive integer, the shape is neither of vectors nor of images, or an option is
            none of those named.

    References:
        Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models; Song and others (2021), Score-Based
        Generative Modeling through Stochastic Differential Equations.

    Example:
        >>> from ppl_genmodels.objectives import denoising
        >>> program = Diffusion(event_shape=(2,), width=16)
        >>> denoising(weight="simple").loss(program, torch.randn(5, 2)).shape
        torch.Size([])
        >>> program.generate(5, steps=4).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 128,
        blocks: int = 3,
        scales: int = 2,
        noising: str = "cosine",
        predicts: Predicts = "velocity",
        data_scale: float = 1.0,
        learned_variance: bool = False,
        solver: str = "dopri5",
        steps: int = 20,
        trace: str = "exact",
    ) -> None:
        super().__init__()
        self.flow = diffusion_flow(
            "Diffusion",
            event_shape,
            width,
            blocks,
            scales,
            noising,
            predicts,
            data_scale,
            learned_variance,
            solver={"solver": solver, "steps": steps, "trace": trace},
        )

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape`` and ``data_scale``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty.
        """
        x = data_array(data, "x", "Diffusion")
        return {"event_shape": x.shape[1:], "data_scale": float(np.nanstd(x))}

    def default_objective(self) -> Objective:
        """The denoising error as :func:`denoising_for` weighs it; the bound where noising or variance is learned."""
        return denoising_for(self.denoiser)

    @property
    def denoiser(self) -> Denoiser:
        """The network with its noising."""
        denoiser: Denoiser = self.flow.denoiser
        return denoiser

    def density(self) -> DiffusionDistribution:
        """The distribution of a datum."""
        return DiffusionDistribution(self.flow)

    def chain(self, steps: int) -> DiffusionChain:
        """The chain of so many steps, with this network."""
        return DiffusionChain(self.flow, steps)

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws a datum, or conditions on data.

        Args:
            x: Data to condition on, ``(rows, *event_shape)``; one row is drawn by default.

        Returns:
            The data, observed or drawn.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        if x is not None:
            check_dtype(self, "x", x, like=self.flow.base_loc)
        with pyro.plate("data", 1 if x is None else check_rows(self, "x", x, self.flow.event_shape)):
            return pyro.sample("x", self.density(), obs=x)

    @torch.no_grad()
    def generate(self, rows: int, sampler: samplers.Sampler = "dpm_solver", steps: int = 20) -> Tensor:
        """Draws data by a sampler of few steps.

        Args:
            rows: How many.
            sampler: As :func:`~ppl_genmodels.distributions.samplers.generate` has them.
            steps: Of the sampler.

        Returns:
            Data, ``(rows, *event_shape)``.
        """
        noise = torch.randn(
            rows, *self.flow.event_shape, dtype=self.flow.base_loc.dtype, device=self.flow.base_loc.device
        )
        return samplers.generate(self.denoiser, noise, sampler, steps)


def diffusion_flow(
    owner: str,
    event_shape: Sequence[int],
    width: int,
    blocks: int,
    scales: int,
    noising: str,
    predicts: Predicts,
    data_scale: float,
    learned_variance: bool = False,
    context_features: int = 0,
    solver: Mapping[str, Any] | None = None,
) -> ProbabilityFlow:
    """The probability flow of a new denoiser of vectors or images.

    Args:
        owner: Who asks, for messages.
        event_shape: As :class:`Diffusion` has it.
        width: As :class:`Diffusion` has it.
        blocks: As :class:`Diffusion` has it.
        scales: As :class:`Diffusion` has it.
        noising: As :class:`Diffusion` has it.
        predicts: As :class:`Diffusion` has it.
        data_scale: As :class:`Diffusion` has it.
        learned_variance: As :class:`Diffusion` has it.
        context_features: Length of the denoiser's context; 0 for none.
        solver: What :class:`~ppl_genmodels.transforms.Continuous` is told of the solver.

    Raises:
        OptionError: When a size is no positive integer, the shape is neither of vectors nor of images, or an option is
            none of those named.

    Example:
        >>> flow = diffusion_flow("Diffusion", (1, 8, 8), 8, 1, 2, "cosine", "velocity", 1.0)
        >>> type(flow.denoiser.network).__name__, flow.features
        ('UNet', 64)
    """
    shape = check_sizes(owner, "event_shape", event_shape)
    for name, size in (("width", width), ("blocks", blocks), ("scales", scales)):
        check_size(owner, name, size)
    if len(shape) not in (1, 3):
        raise OptionError(
            f"{owner}: event_shape={shape}, expected (features,) or (channels, height, width). Remedy: reshape the "
            f"data."
        )
    outputs = shape[0] * (2 if learned_variance else 1)
    network: nn.Module
    if len(shape) == 1:
        network = TimeMLP(shape[0], width, blocks, context_features, outputs)
    else:
        network = UNet(shape[0], [width * 2**scale for scale in range(scales)], blocks, context_features, outputs)
    denoiser = Denoiser(network, noising_of(owner, noising), predicts, len(shape), data_scale, learned_variance)
    return ProbabilityFlow(denoiser, shape, context_features, **(solver or {}))


def noising_of(owner: str, name: str) -> Noising:
    """A new noising by its name.

    Raises:
        OptionError: When there is none of that name.

    Example:
        >>> noising_of("Diffusion", "cosine")
        CosineNoising()
    """
    if name not in NOISINGS:
        raise OptionError(f"{owner}: noising={name!r}, expected one of {', '.join(map(repr, NOISINGS))}.")
    return NOISINGS[name]()


def denoising_for(denoiser: Denoiser, *sites: str) -> Objective:
    """What a diffusion is fitted by unless told otherwise.

    The simple weight would teach an output that is no noise nothing where there is much noise, as the error of the
    noise is small there whatever the output; those are weighed by the signal-to-noise ratio.

    References:
        Salimans and Ho (2022), Progressive Distillation for Fast Sampling of Diffusion Models, section 4.

    Example:
        >>> denoising_for(diffusion_flow("Diffusion", (2,), 8, 1, 1, "cosine", "velocity", 1.0).denoiser)
        -E[w |eps - eps(x_t,t)|²]
    """
    if denoiser.learned_variance:
        return denoising(*sites, steps=CHAIN_STEPS, times="importance")
    if any(parameter.requires_grad for parameter in denoiser.noising.parameters()):
        return denoising(*sites, times="importance")
    return denoising(*sites, weight="simple" if denoiser.predicts in ("noise", "score") else "snr")
