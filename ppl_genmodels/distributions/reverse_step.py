r"""One step of a diffusion's chain towards the data: what it is given the data, and what a denoiser makes of it.

Convention of this module: a step leads from time :math:`t` to an earlier :math:`s < t`, of shapes that broadcast to
(\*batch); values have the shape (\*batch, \*event), and :math:`x_t = \alpha_t x + \sigma_t \epsilon`.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_genmodels.networks.denoiser import Denoised

__all__ = ["posterior", "reverse_step", "step_divergence"]

Scales = tuple[Tensor, Tensor]


def posterior(denoiser: Any, noisy: Tensor, data: Tensor, time: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of :math:`q(x_s \mid x_t, x)` for :math:`s < t`.

    Args:
        denoiser: The denoiser, for its noising.
        noisy: :math:`x_t`, shape (\*batch, \*event).
        data: :math:`x`, of the same shape.
        time: :math:`t`, shape (\*batch) or one that broadcasts to it.
        earlier: :math:`s`.

    References:
        Kingma, Salimans, Poole and Ho (2021), Variational Diffusion Models, appendix A, equations 25 to 29.
    """
    return _posterior(noisy, data, denoiser.scales(time), denoiser.scales(earlier))


def _posterior(noisy: Tensor, data: Tensor, late: Scales, early: Scales) -> tuple[Tensor, Tensor]:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = late, early
    kept = alpha_t * sigma_s**2 / (alpha_s * sigma_t**2)  # alpha_{t|s} sigma_s^2 / sigma_t^2
    share = 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2  # sigma_{t|s}^2 / sigma_t^2
    return kept * noisy + alpha_s * share * data, share * sigma_s**2


def reverse_step(
    denoiser: Any, found: Denoised, noisy: Tensor, time: Tensor, earlier: Tensor, scales: Scales | None = None
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of :math:`p(x_s \mid x_t)`, the model's step.

    The mean is that of the posterior at the expected data. The variance is the posterior's, or, of a denoiser that
    learned it, lies between that and the forward step's, evenly on the log scale.

    Args:
        denoiser: The denoiser, for its noising.
        found: What it says of the noisy value.
        noisy: :math:`x_t`, shape (\*batch, \*event).
        time: :math:`t`.
        earlier: :math:`s`.
        scales: Of data and noise at :math:`s`, where they are known already.

    References:
        Ho, Jain and Abbeel (2020), equations 6 and 7; Nichol and Dhariwal (2021), Improved Denoising Diffusion
        Probabilistic Models, equation 15.
    """
    early = denoiser.scales(earlier) if scales is None else scales
    mean, variance = _posterior(noisy, found.data, (found.alpha, found.sigma), early)
    if found.widening is None:
        return mean, variance
    return mean, variance * (found.sigma / early[1]) ** (2 * found.widening)


def step_divergence(
    denoiser: Any, data: Tensor, noise: Tensor, time: Tensor, earlier: Tensor, context: Tensor | None = None
) -> Tensor:
    r"""The divergence :math:`KL(q(x_s \mid x_t, x) \,\|\, p(x_s \mid x_t))` of one step, in nats.

    Where the variances are equal it is :math:`\tfrac12 (e^{\lambda_s - \lambda_t} - 1) \|\epsilon - \hat\epsilon\|^2`.

    Args:
        denoiser: The denoiser.
        data: :math:`x`, shape (\*batch, \*event).
        noise: :math:`\epsilon`, of the same shape.
        time: :math:`t`.
        earlier: :math:`s`.
        context: What the denoiser is given.

    Returns:
        Shape (\*batch).

    References:
        Kingma, Salimans, Poole and Ho (2021), equation 13.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> denoiser, half = Denoiser(TimeMLP(2), CosineNoising()), torch.tensor(0.5)
        >>> step_divergence(denoiser, torch.zeros(5, 2), torch.randn(5, 2), half, 0.9 * half).shape
        torch.Size([5])
    """
    noisy = denoiser.noisy(data, noise, time)
    found = denoiser(noisy, time, context)
    if found.widening is None:
        fall = denoiser.noising.log_snr(earlier) - denoiser.noising.log_snr(time)
        error = (noise - found.noise).square().flatten(noise.dim() - denoiser.event_dim).sum(-1)
        return 0.5 * torch.expm1(fall) * error
    mean, variance = posterior(denoiser, noisy, data, time, earlier)
    ours, widened = reverse_step(denoiser, found, noisy, time, earlier)
    q, p = dist.Normal(mean, variance.sqrt()), dist.Normal(ours, widened.sqrt())
    return kl_divergence(q.to_event(denoiser.event_dim), p.to_event(denoiser.event_dim))
