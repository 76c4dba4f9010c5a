"""Games beside a loop written by hand: a step of both players.

Convention of this module: a step is one update of the critic and one of the generator, on the same batch, and a ratio
to the one by hand, eager, so that below one is faster than by hand. Everyone has the same networks, the same noise for
each player anew, and Adam.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.interleaved import Rounds, Way, ratios
from benchmarks.machine import clock
from ppl_genmodels.inference import compile_step
from ppl_genmodels.models import GAN

__all__ = ["CASES", "HAND", "LOWERED", "MODES", "OURS", "Case", "measure"]

OURS, HAND = "ppl_genmodels", "torch by hand"
LOWERED = f"{OURS}, lowered"
MODES = {f"{OURS}, eager": "off", f"{OURS}, traced": "trace", LOWERED: "inductor"}
PENALTY, LATENTS = 10.0, 16
ADAM = partial(torch.optim.Adam, betas=(0.0, 0.9), fused=True)


@dataclass(frozen=True)
class Case:
    """A game of a size.

    Attributes:
        shape: Of one datum: a vector's, or an image's.
        rows: Of a batch.
        width: Of the hidden layers.
        divergence: ``"nonsaturating"`` or ``"wasserstein"``, with a penalty of the critic's slope.
    """

    shape: tuple[int, ...]
    rows: int
    width: int
    divergence: str

    @property
    def name(self) -> str:
        """As the tables show it."""
        size = f"{self.shape[0]}-D" if len(self.shape) == 1 else "x".join(map(str, self.shape[1:]))
        return f"{'GAN' if self.divergence == 'nonsaturating' else 'WGAN-GP'}, {size}, {self.rows} rows"

    def program(self, rate: float) -> GAN:
        """A new program and critic, always with the same weights.

        Example:
            >>> Case((2,), 8, 16, "wasserstein").program(1e-3).generate(3).shape
            torch.Size([3, 2])
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return GAN(
                self.shape,
                LATENTS,
                hidden=(self.width, self.width),
                divergence=self.divergence,
                gradient_penalty=PENALTY if self.divergence == "wasserstein" else None,
                critic_steps=1,
                critic_rate=rate,
            )

    def batches(self, count: int = 8) -> list[Tensor]:
        """Batches of standard normal data, always the same."""
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(self.rows, *self.shape, generator=generator) for _ in range(count)]


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case((2,), 256, 128, "nonsaturating"),
        Case((2,), 256, 128, "wasserstein"),
        Case((784,), 64, 256, "nonsaturating"),
        Case((784,), 64, 256, "wasserstein"),
        Case((1, 28, 28), 64, 128, "wasserstein"),
    )
}


def measure(rounds: int) -> dict[str, Rounds]:
    """By case the rounds of every way."""
    found = {}
    for name, case in CASES.items():
        print(f"timing {name} ...", flush=True)
        found[name] = ratios(ways(case), HAND, rounds, clock("cpu"))
        torch._dynamo.reset()
    return found


def ways(case: Case, rate: float = 1e-4) -> dict[str, Way]:
    """By hand, and this library's program in each mode."""
    return {HAND: by_hand(case, rate)} | {name: program_way(case, mode, rate) for name, mode in MODES.items()}


def program_way(case: Case, mode: Any, rate: float) -> Way:
    """``compile_step`` on the program with its own objective."""
    program, batches = case.program(rate), itertools.cycle(case.batches())
    step = compile_step(program.default_objective(), program, ADAM(program.parameters(), lr=rate), mode)
    return Way(lambda: -step(next(batches)).item())


def by_hand(case: Case, rate: float) -> Way:
    """A loop as a tutorial has it; it gives the estimated divergence."""
    program, batches = case.program(rate), itertools.cycle(case.batches())
    generator, critic = program.generator, program.critic
    players = (ADAM(critic.parameters(), lr=rate), ADAM(generator.parameters(), lr=rate))
    costs = wasserstein if case.divergence == "wasserstein" else nonsaturating

    def train() -> float:
        x = next(batches)
        drawn = generator(torch.randn(case.rows, LATENTS)).detach()
        players[0].zero_grad()
        loss, _ = costs(critic, x, drawn)
        loss.backward()
        players[0].step()
        players[1].zero_grad()
        drawn = generator(torch.randn(case.rows, LATENTS))
        cost, estimate = costs(critic, x, drawn, of_critic=False)
        cost.backward()
        players[1].step()
        return estimate.item()

    return Way(train)


def nonsaturating(
    critic: Callable[[Tensor], Tensor], x: Tensor, drawn: Tensor, of_critic: bool = True
) -> tuple[Tensor, Tensor]:
    """The loss of a player, and the estimate, of the original game."""
    second = critic(drawn)
    if not of_critic:
        with torch.no_grad():
            estimate = 2 * torch.log(torch.tensor(2.0)) - softplus(-critic(x)).mean() - softplus(second).mean()
        return softplus(-second).mean(), estimate
    loss = softplus(-critic(x)).mean() + softplus(second).mean()
    return loss, -loss.detach()


def wasserstein(
    critic: Callable[[Tensor], Tensor], x: Tensor, drawn: Tensor, of_critic: bool = True
) -> tuple[Tensor, Tensor]:
    """The loss of a player, and the estimate, with a penalty of the critic's slope between both sides."""
    second = critic(drawn)
    if not of_critic:
        with torch.no_grad():
            estimate = critic(x).mean() - second.mean()
        return -second.mean(), estimate
    share = torch.rand(len(x), *(1 for _ in x.shape[1:]))
    between = (share * x + (1 - share) * drawn).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    excess = slope.flatten(1).norm(dim=1) - 1
    loss = second.mean() - critic(x).mean() + PENALTY * excess.square().mean()
    return loss, -loss.detach()
