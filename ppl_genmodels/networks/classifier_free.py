r"""Classifier-free guidance: a denoiser drawn further towards its context than the context itself would.

Convention of this module: a guidance of zero is the denoiser as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ppl_genmodels.networks.denoiser import Denoised

__all__ = ["ClassifierFree"]


class ClassifierFree(nn.Module):
    r"""A denoiser whose noise is :math:`(1 + w)\, \hat\epsilon(x_t, c) - w\, \hat\epsilon(x_t, \varnothing)`.

    It samples about :math:`p(x \mid c) \, p(c \mid x)^w`: the larger :math:`w`, the more typical of the context and the
    less diverse.

    Args:
        denoiser: A :class:`~ppl_genmodels.networks.Denoiser` that was trained with and without its context.
        none: The context that stands for no context, shape (features,).
        guidance: :math:`w`.

    References:
        Ho and Salimans (2022), Classifier-Free Diffusion Guidance, equation 6.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> denoiser = Denoiser(TimeMLP(2, context_features=3), CosineNoising())
        >>> guided = ClassifierFree(denoiser, torch.zeros(3), guidance=2.0)
        >>> guided(torch.randn(5, 2), torch.tensor(0.5), torch.randn(5, 3)).data.shape
        torch.Size([5, 2])
    """

    def __init__(self, denoiser: Any, none: Tensor, guidance: float) -> None:
        super().__init__()
        self.denoiser, self.none, self.guidance = denoiser, none, guidance
        self.noising, self.event_dim = denoiser.noising, denoiser.event_dim
        self.data_scale = denoiser.data_scale
        self.scales, self.noisy = denoiser.scales, denoiser.noisy

    def forward(self, noisy: Tensor, time: Tensor, context: Tensor) -> Denoised:
        r"""What the guided denoiser says of noisy values.

        Args:
            noisy: Shape (\*batch, \*event).
            time: Shape (\*batch), or one that broadcasts to it.
            context: Shape (\*batch, features), or one that broadcasts to it.
        """
        batch = noisy.shape[: noisy.dim() - self.event_dim]
        context = context.expand(*batch, -1)
        both = torch.stack([context, self.none.expand_as(context)])
        found = self.denoiser(noisy.expand(2, *noisy.shape), time.expand(2, *batch), both)
        (given, free), alpha, sigma = found.noise, found.alpha[0], found.sigma[0]
        noise = given + self.guidance * (given - free)
        widening = None if found.widening is None else found.widening[0]
        return Denoised((noisy - sigma * noise) / alpha, noise, alpha, sigma, widening)
