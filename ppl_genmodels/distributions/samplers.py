r"""Samplers of diffusions: from noise to data in few or many steps.

Convention of this module: a sampler goes from time 1, noise, to time 0, data, and asks the denoiser once in each step
(Heun's method twice), and once more at the end; :math:`x_t = \alpha_t x + \sigma_t \epsilon`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ppl_genmodels.distributions.reverse_step import reverse_step
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.denoiser import Denoised
from ppl_genmodels.networks.sizes import check_size

__all__ = ["Sampler", "generate", "time_grid"]

Sampler = Literal["ancestral", "ddim", "heun", "dpm_solver"]


def generate(
    denoiser: Any,
    noise: Tensor,
    sampler: Sampler = "dpm_solver",
    steps: int = 20,
    context: Tensor | None = None,
) -> Tensor:
    r"""Carries noise to data.

    - ``"ancestral"`` draws each step of the chain; needs many steps.
    - ``"ddim"`` adds no noise after the first: Euler's method for the probability flow in :math:`x_t / \alpha_t` as a
      function of :math:`\sigma_t / \alpha_t`.
    - ``"heun"`` is of second order with two evaluations in each step: Heun's method for the value over its standard
      deviation as a function of the angle :math:`\arctan(\sigma_t / (\alpha_t s))`, where :math:`s` is the data's
      scale. That angle has bounds where other measures of the noise have none. The last step is of first order.
    - ``"dpm_solver"`` is of second order with one evaluation, using that of the step before: DPM-Solver++, but that its
      extrapolation is never longer than that step was.

    Args:
        denoiser: A :class:`~ppl_genmodels.networks.Denoiser`, or what answers as one.
        noise: Standard normal draws, shape (\*batch, \*event).
        sampler: One of the four.
        steps: How many.
        context: What the denoiser is given.

    Returns:
        Data, of the shape of the noise.

    Raises:
        OptionError: When there is no such sampler, or ``steps`` is no positive integer.

    References:
        Ho, Jain and Abbeel (2020), algorithm 2; Song, Meng and Ermon (2021), Denoising Diffusion Implicit Models,
        equation 13; Karras and others (2022), algorithm 1, and Salimans and Ho (2022), Progressive Distillation, for
        the angle; Lu and others (2023), DPM-Solver++, algorithm 2.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> denoiser = Denoiser(TimeMLP(2), CosineNoising())
        >>> generate(denoiser, torch.randn(5, 2), "ddim", steps=4).shape
        torch.Size([5, 2])
    """
    if sampler not in get_args(Sampler):
        raise OptionError(f"sampler={sampler!r}, expected one of {', '.join(map(repr, get_args(Sampler)))}.")
    times = time_grid(check_size("generate", "steps", steps), noise)
    _, sigma = denoiser.scales(times[0])
    return _SAMPLERS[sampler](denoiser, sigma * noise, times, () if context is None else (context,))


def time_grid(steps: int, like: Tensor) -> Tensor:
    """Times from 1 to 0 at equal distances, shape (steps + 1,).

    Example:
        >>> time_grid(2, torch.zeros(3))
        tensor([1.0000, 0.5000, 0.0000])
    """
    return torch.linspace(1.0, 0.0, steps + 1, dtype=like.dtype, device=like.device)


def _steps(denoiser: Any, times: Tensor) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor, Tensor]]:
    """The times of each step, and the scales of data and noise at its end; those of all steps are computed at once."""
    alphas, sigmas = denoiser.scales(times[1:])
    return zip(pairwise(times), alphas, sigmas, strict=True)


def _ancestral(denoiser: Any, value: Tensor, times: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    for (time, earlier), *scales in _steps(denoiser, times):
        found = denoiser(value, time, *given)
        mean, variance = reverse_step(denoiser, found, value, time, earlier, (scales[0], scales[1]))
        value = mean + variance.sqrt() * torch.randn_like(value)
    return denoiser(value, times[-1], *given).data


def _ddim(denoiser: Any, value: Tensor, times: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    for (time, _), alpha, sigma in _steps(denoiser, times):
        found = denoiser(value, time, *given)
        value = alpha * found.data + sigma * found.noise
    return denoiser(value, times[-1], *given).data


def _heun(denoiser: Any, value: Tensor, times: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    for (time, earlier), alpha, sigma in _steps(denoiser, times[:-1]):
        found = denoiser(value, time, *given)
        guess = denoiser(alpha * found.data + sigma * found.noise, earlier, *given)
        size, angle, slope = _in_angle(denoiser, found)
        next_size, next_angle, next_slope = _in_angle(denoiser, guess)
        value = next_size * (value / size + (next_angle - angle) * (slope + next_slope) / 2)
    # The last step is of first order: at the least noise, what a network says of it is mostly its own error.
    return _ddim(denoiser, value, times[-2:], given)


def _in_angle(denoiser: Any, found: Denoised) -> tuple[Tensor, Tensor, Tensor]:
    r"""The value's standard deviation, about; the angle between data and noise; the slope of the one over the other."""
    scale = denoiser.data_scale
    size = torch.hypot(found.alpha * scale, found.sigma)
    slope = (found.alpha * scale * found.noise - found.sigma * found.data / scale) / size
    return size, torch.atan2(found.sigma, found.alpha * scale), slope


def _dpm_solver(denoiser: Any, value: Tensor, times: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    before: tuple[Tensor, Tensor] | None = None
    for (time, _), alpha, sigma in _steps(denoiser, times):
        found = denoiser(value, time, *given)
        length = (alpha.log() - sigma.log()) - (found.alpha.log() - found.sigma.log())
        data = found.data
        if before is not None:
            # A step much longer than the one before it, as the last ones are, would extrapolate too far.
            data = data + 0.5 * (length / before[1]).clamp(max=1.0) * (data - before[0])
        value = sigma / found.sigma * value - alpha * torch.expm1(-length) * data
        before = (found.data, length)
    return denoiser(value, times[-1], *given).data


_SAMPLERS: dict[str, Callable[[Any, Tensor, Tensor, tuple[Tensor, ...]], Tensor]] = {
    "ancestral": _ancestral,
    "ddim": _ddim,
    "heun": _heun,
    "dpm_solver": _dpm_solver,
}
