"""Sampling in diffusers: its schedulers drive a network of noise, as in the loops of its documentation.

Convention of this module: the network is asked at times in (0, 1], one for each row. Schedulers spread their steps from
the noisiest on and do not clip, so that they do what this library's samplers do.
"""

from __future__ import annotations

from collections.abc import Callable

import diffusers
from torch import Tensor, nn

from benchmarks.denoiser_cases import FIRST_RATE, LAST_RATE, NOISE_STEPS

__all__ = ["diffusers_sampler"]

NOISE = {"num_train_timesteps": NOISE_STEPS, "beta_start": FIRST_RATE, "beta_end": LAST_RATE}


def diffusers_sampler(network: nn.Module, sampler: str, steps: int) -> Callable[[Tensor], Tensor]:
    """From standard normal noise to data.

    Args:
        network: Of values and times, which predicts the noise.
        sampler: ``"ddim"``, ``"dpm_solver"`` or ``"ancestral"``.
        steps: As many evaluations of the network.

    Example:
        >>> import torch
        >>> diffusers_sampler(lambda x, time: torch.zeros_like(x), "ddim", 4)(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    options = NOISE | {"timestep_spacing": "trailing"}
    scheduler = {
        "ddim": lambda: diffusers.DDIMScheduler(**options, clip_sample=False),
        "dpm_solver": lambda: diffusers.DPMSolverMultistepScheduler(**options),
        "ancestral": lambda: diffusers.DDPMScheduler(**options, clip_sample=False),
    }[sampler]()

    def draw(value: Tensor) -> Tensor:
        scheduler.set_timesteps(steps)
        for step in scheduler.timesteps:
            noise = network(value, ((step + 1) / NOISE_STEPS).expand(len(value)))
            value = scheduler.step(noise, step, value).prev_sample
        return value

    return draw
