r"""A diffusion as a distribution: draws and densities by its probability flow.

Convention of this module: the flow is a module that its owner holds, so that the distribution is cheap to make.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Transform
from torch.distributions.transforms import ReshapeTransform

from ppl_genmodels.distributions.flow import Flow
from ppl_genmodels.transforms.probability_flow import ProbabilityFlow

__all__ = ["Diffusion"]


class Diffusion(Flow):
    r"""Noise carried to data by the mean paths of a diffusion; serves at any site.

    ``rsample`` integrates the probability flow, and ``log_prob`` the change of density along it. Fitted by
    :func:`~ppl_genmodels.objectives.denoising`, which needs neither.

    Args:
        flow: The probability flow of a denoiser.
        context: What the denoiser is given, shape (\*batch, features).

    References:
        Song and others (2021), Score-Based Generative Modeling through Stochastic Differential Equations, section 4.3.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> flow = ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,), solver="rk4", steps=8)
        >>> drawn = Diffusion(flow).rsample((5,))
        >>> Diffusion(flow).log_prob(drawn).shape
        torch.Size([5])
    """

    def __init__(self, flow: ProbabilityFlow, context: Tensor | None = None) -> None:
        conditioned = flow if context is None else flow.condition(context)
        transforms: list[Transform] = [conditioned]
        if len(flow.event_shape) > 1:
            transforms.append(ReshapeTransform(torch.Size((flow.features,)), torch.Size(flow.event_shape)))
        base = dist.Normal(flow.base_loc, flow.base_scale()).to_event(1)
        batch = torch.Size() if context is None else context.shape[:-1]
        super().__init__(base.expand(batch), transforms)
