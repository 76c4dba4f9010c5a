r"""At which times a denoising objective looks, and what each must be weighed by.

Convention of this module: times have the shape of the batch and lie in [0, 1]; those of one run are spread evenly from
one random start, so that no two runs see quite different parts of the noise.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["NoiseTimes", "Times", "draw_times", "even", "fall", "log_normal_times"]

Times = Literal["uniform", "log_snr", "importance"]

_LOG_NOISE = (-1.2, 1.2)
"""Mean and standard deviation of the log scale of the noise in Karras and others (2022), table 1."""


class NoiseTimes(NamedTuple):
    """Times, and what each must be weighed by to stand for evenly spread ones; both of the batch shape."""

    time: Tensor
    weight: Tensor


def draw_times(denoiser: Any, like: Tensor, batch: torch.Size, times: Times) -> NoiseTimes:
    """Times spread evenly, evenly in the log signal-to-noise ratio, or as the losses so far were.

    Args:
        denoiser: The denoiser, for its noising and for the losses that it remembers.
        like: A tensor of the dtype and device that the times shall have.
        batch: How many.
        times: One of the three.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> denoiser = Denoiser(TimeMLP(2), CosineNoising())
        >>> time, weight = draw_times(denoiser, torch.zeros(1), torch.Size([4]), "uniform")
        >>> (time.sort().values.diff() * 4).round(), weight
        (tensor([1., 1., 1.]), tensor([1., 1., 1., 1.]))
    """
    numbers = even(like, batch)
    if times == "importance":
        time, density = denoiser.importance.times(numbers)
        return NoiseTimes(time, 1 / density)
    if times == "uniform":
        return NoiseTimes(numbers, torch.ones_like(numbers))
    start, end = _ends(denoiser, like)
    time = denoiser.noising.time_of(start + numbers * (end - start)).detach()
    return NoiseTimes(time, (end - start) / fall(denoiser, time))


def log_normal_times(denoiser: Any, like: Tensor, batch: torch.Size) -> NoiseTimes:
    """Times at which the noise's scale, relative to the data's, has a log-normal distribution; none is weighed.

    References:
        Karras, Aittala, Aila and Laine (2022), Elucidating the Design Space of Diffusion-Based Generative Models,
        table 1.
    """
    start, end = _ends(denoiser, like)
    mean, deviation = _LOG_NOISE
    log_snr = -2 * (mean + deviation * torch.randn(batch, dtype=like.dtype, device=like.device))
    time = denoiser.noising.time_of(log_snr.clamp(end, start))
    return NoiseTimes(time, torch.ones_like(time))


def even(like: Tensor, batch: torch.Size) -> Tensor:
    """Numbers in [0, 1), evenly spread over the batch from one random start.

    References:
        Kingma, Salimans, Poole and Ho (2021), Variational Diffusion Models, appendix I.1.
    """
    count = batch.numel()
    places = torch.arange(count, dtype=like.dtype, device=like.device) / count
    return ((places + torch.rand_like(places[:1])) % 1).reshape(batch)


def fall(denoiser: Any, time: Tensor) -> Tensor:
    """The slope of the log signal-to-noise ratio, which is negative; of the shape of ``time``."""
    value, pull = torch.func.vjp(denoiser.noising.log_snr, time)  # type: ignore[misc]
    return pull(torch.ones_like(value))[0]


def _ends(denoiser: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    start, end = denoiser.noising.log_snr(torch.arange(2, dtype=like.dtype, device=like.device))
    return start, end
