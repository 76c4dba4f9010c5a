r"""The probability flow of a diffusion: a bijection of noise and data that has the diffusion's marginals.

Convention of this module: a diffusion has its data at time 0 and its noise at time 1, a flow the other way round; here
:math:`u = 1 - t`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ppl_genmodels.networks.sizes import check_sizes
from ppl_genmodels.transforms.continuous import Continuous

__all__ = ["ProbabilityFlow"]


class ProbabilityFlow(Continuous):
    r"""Carries noise to data along the mean paths of a diffusion.

    .. math:: \frac{dx}{dt} = f_t x - \tfrac12 g_t^2 \nabla \log p_t(x)

    Attributes:
        event_shape: Shape of one datum.

    Args:
        denoiser: A :class:`~ppl_genmodels.networks.Denoiser`.
        event_shape: Shape of one datum; the flow itself has flat vectors.
        context_features: Length of the denoiser's context; 0 for none.
        **options: As :class:`Continuous` has them: trace, noise, gradient, solver, steps, rtol, atol.

    References:
        Song and others (2021), Score-Based Generative Modeling through Stochastic Differential Equations, equation 13.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> flow = ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,), solver="rk4", steps=4)
        >>> flow(torch.randn(5, 2)).shape
        torch.Size([5, 2])
    """

    base_loc: Tensor

    def __init__(self, denoiser: Any, event_shape: tuple[int, ...], context_features: int = 0, **options: Any) -> None:
        shape = check_sizes("ProbabilityFlow", "event_shape", event_shape)
        field = _Field(denoiser, shape)
        super().__init__(torch.Size(shape).numel(), network=field, context_features=context_features, **options)
        self.event_shape = shape
        self.register_buffer("base_loc", torch.zeros(self.features), persistent=False)

    @property
    def denoiser(self) -> Any:
        """The denoiser whose flow it is."""
        return self.network.denoiser

    def base_scale(self) -> Tensor:
        """The scale of the noise at time 1, shape (features,)."""
        return self.denoiser.noising.sigma(torch.ones_like(self.base_loc))


class _Field(nn.Module):
    """The velocity of the flow, at flow time."""

    base_loc: Tensor

    def __init__(self, denoiser: Any, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.denoiser, self.event_shape = denoiser, event_shape

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        time = 1 - time
        value = x.reshape(*x.shape[:-1], *self.event_shape)
        found = self.denoiser(value, time) if context is None else self.denoiser(value, time, context)
        drift, squared_diffusion = self.denoiser.noising.rates(time)
        one_each = (*time.shape, *(1 for _ in self.event_shape))
        drift, pull = drift.reshape(one_each), (0.5 * squared_diffusion).reshape(one_each) / found.sigma
        return -(drift * value + pull * found.noise).flatten(-len(self.event_shape))
