"""Diffusions beside a loop written by hand and beside diffusers: training steps of a denoiser, and sampling with it.

Convention of this module: a training step is a ratio to the one by hand, eager, so that below one is faster than by
hand; sampling is a ratio to this library, so that above one is slower than it. Samplers are without gradients and ask
the network equally often, as this library's last step takes one evaluation of its own.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.denoiser_cases import CASES, FIRST_RATE, LAST_RATE, NOISE_STEPS, Case
from benchmarks.interleaved import Rounds, Way, ratios
from benchmarks.machine import clock
from ppl_genmodels.distributions.samplers import generate
from ppl_genmodels.inference import compile_step
from ppl_genmodels.objectives import denoising

__all__ = ["DIFFUSERS", "EVALUATIONS", "HAND", "LOWERED", "MODES", "OURS", "SAMPLERS", "TRAINING", "measure"]

OURS, HAND, DIFFUSERS = "ppl_genmodels", "torch by hand", "diffusers"
TRAINING = "training step"
SAMPLERS = ("ddim", "dpm_solver", "ancestral")
LOWERED = f"{OURS}, lowered"
MODES = {f"{OURS}, eager": "off", f"{OURS}, traced": "trace", LOWERED: "inductor"}
EVALUATIONS = 20
"""Of the network, for one batch of draws."""


def installed() -> bool:
    """Whether diffusers is there."""
    return importlib.util.find_spec("diffusers") is not None


def measure(rounds: int) -> dict[str, dict[str, Rounds]]:
    """By quantity, which is training or a sampler, and by case the rounds of every way."""
    found: dict[str, dict[str, Rounds]] = {quantity: {} for quantity in (TRAINING, *SAMPLERS)}
    for name, case in CASES.items():
        print(f"timing {name} ...", flush=True)
        found[TRAINING][name] = ratios(training_ways(case), HAND, rounds, clock("cpu"))
        torch._dynamo.reset()
        for sampler in SAMPLERS:
            found[sampler][name] = ratios(sampling_ways(case, sampler), OURS, rounds, clock("cpu"))
    return found


def training_ways(case: Case, learning_rate: float = 1e-3) -> dict[str, Way]:
    """A step on the mean squared error of the noise: by hand, and this library's program in each mode."""
    ways = {HAND: by_hand(case, learning_rate)}
    if case.compiled:
        ways[f"{HAND}, compiled"] = by_hand(case, learning_rate, compiled=True)
    return ways | {name: program_way(case, mode, learning_rate) for name, mode in MODES.items()}


def by_hand(case: Case, learning_rate: float, compiled: bool = False) -> Way:
    """A loop as a tutorial has it: random steps, noisy data by a table of scales, the squared error of the noise."""
    network: nn.Module = case.program().denoiser.network
    optimizer = torch.optim.Adam(network.parameters(), learning_rate, fused=True)
    kept = torch.cumprod(1 - torch.linspace(FIRST_RATE, LAST_RATE, NOISE_STEPS), 0)
    of_data, of_noise = kept.sqrt(), (1 - kept).sqrt()
    batches = itertools.cycle(case.batches())
    one_each = (-1, *(1 for _ in case.shape))

    def loss_of(x: Tensor) -> Tensor:
        step = torch.randint(0, NOISE_STEPS, (len(x),))
        noise = torch.randn_like(x)
        noisy = of_data[step].view(one_each) * x + of_noise[step].view(one_each) * noise
        return nn.functional.mse_loss(network(noisy, (step + 1) / NOISE_STEPS), noise)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def train() -> float:
        optimizer.zero_grad()
        loss = loss_of(next(batches))
        loss.backward()
        optimizer.step()
        return loss.item()

    return Way(train)


def program_way(case: Case, mode: Any, learning_rate: float) -> Way:
    """``compile_step`` on the program with the denoising objective."""
    program, batches = case.program(), itertools.cycle(case.batches())
    optimizer = torch.optim.Adam(program.parameters(), learning_rate, fused=True)
    step = compile_step(denoising(weight="simple"), program, optimizer, mode)
    return Way(lambda: -step(next(batches)).item())


def sampling_ways(case: Case, sampler: str) -> dict[str, Way]:
    """A batch of draws, from new noise each time."""
    ways = {OURS: _drawing(case, _ours(case, sampler))}
    if installed():
        from benchmarks.diffusers_samplers import diffusers_sampler

        ways[DIFFUSERS] = _drawing(case, diffusers_sampler(case.program().denoiser.network, sampler, EVALUATIONS))
    return ways


def _ours(case: Case, sampler: Any) -> Callable[[Tensor], Tensor]:
    denoiser = case.program().denoiser
    return lambda noise: generate(denoiser, noise, sampler, EVALUATIONS - 1)


def _drawing(case: Case, sampler: Callable[[Tensor], Tensor]) -> Way:
    return Way(lambda: sampler(torch.randn(case.rows, *case.shape)), torch.no_grad)
