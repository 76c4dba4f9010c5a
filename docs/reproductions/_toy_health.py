"""Many games with settings drawn at random, what became of each, and what the health monitor said of it.

Convention of this module: a game's truth is read off samples at its end and on its way, and the places of the modes; of
it the monitor knows nothing. The monitor warns by its own measures, once without the modes and once with their places.
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from _toys import NEAR, Modes, grid, ring
from torch import Tensor

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, models
from ppl_genmodels.errors import NonFiniteError
from ppl_genmodels.inference import Callback, GameHealth, GameWarning

TOYS: Mapping[str, Modes] = {"8 modes": ring(0.1), "25 modes": grid(1.0, 0.075)}
STEPS, BATCH_SIZE, ROWS = 2000, 128, 20_000
EVERY, LOOKS = 100, 2000
"""Steps between looks at a game on its way, and the samples of each look."""
FINAL = 20_000
COVERED, QUALITY, WANDERS, AWAY, NEARER = 0.9, 0.3, 0.3, 0.1, 0.9
"""What the truth is told by; see :func:`truth`."""
KINDS = ("collapse", "critic wins", "astray", "cycles")
MONITORS = ("modes unknown", "modes given")


@dataclass(frozen=True)
class Settings:
    """Of one game."""

    toy: str
    divergence: str
    rate: float
    momentum: float
    critic_rate: float
    critic_steps: int
    gradient_penalty: float
    width: int


def settings(seed: int) -> Settings:
    """Drawn at random: the toy, the divergence, the learning rates, and the networks' width."""
    draw = random.Random(seed)
    divergence = draw.choice(["minimax", "nonsaturating", "wasserstein"])
    penalty = draw.choice([0.1, 1.0, 10.0])
    return Settings(
        toy=draw.choice(list(TOYS)),
        divergence=divergence,
        rate=10 ** draw.uniform(-3.7, -2.3),
        momentum=draw.choice([0.0, 0.5, 0.9]),
        critic_rate=10 ** draw.uniform(-4, -2),
        critic_steps=draw.choice([1, 2, 5]),
        gradient_penalty=penalty if divergence == "wasserstein" else 0.0,
        width=draw.choice([16, 64, 128]),
    )


class Looks(Callback):
    """Samples of the program on its way."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def after_step(self, training: Any) -> None:
        """Draws some."""
        if training.step % EVERY == 0:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.found.append(training.program.source.generate(LOOKS))


def played(seed: int, draw: Callable[[int], Settings] = settings) -> dict[str, Any]:
    """One game: its truth, what either monitor said, and figures of its end."""
    chosen, began = draw(seed), time.process_time()
    toy, looks = TOYS[chosen.toy], Looks()
    monitors = [GameHealth(every=EVERY // 2), GameHealth(every=EVERY // 2, modes=toy.centres, radius=NEAR * toy.width)]
    torch.manual_seed(seed)
    program = _program(chosen)
    finished = _fit(program, toy.sample(ROWS, seed), chosen, [looks, *monitors], seed)
    samples = program.generate(FINAL)
    reached = toy.reached(samples) if finished else toy.reached(torch.full_like(samples, 1e6))
    return {
        "settings": vars(chosen),
        "truth": truth(toy, reached.held, reached.quality, looks.found) if finished else [],
        "covered": reached.held / reached.parts,
        "quality": reached.quality,
        **{name: _said(monitor.present) for name, monitor in zip(MONITORS, monitors, strict=True)},
        **{f"{name}, ever": _said(monitor.warned) for name, monitor in zip(MONITORS, monitors, strict=True)},
        "seconds": time.process_time() - began,
    }


def _program(chosen: Settings) -> models.GAN:
    names = ("divergence", "critic_rate", "critic_steps", "gradient_penalty")
    options = {name: getattr(chosen, name) for name in names}
    return models.GAN((2,), latent_dim=4, hidden=(chosen.width, chosen.width), **options)


def _fit(program: models.GAN, data: Tensor, chosen: Settings, callbacks: list[Callback], seed: int) -> bool:
    """Whether it came to its end with finite numbers."""
    adam = partial(torch.optim.Adam, lr=chosen.rate, betas=(chosen.momentum, 0.9), fused=True)
    run: dict[str, Any] = {"steps": STEPS, "batch_size": BATCH_SIZE, "optimizer": adam, "callbacks": callbacks}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GameWarning)
        try:
            ppl.fit(program, data, **run, seed=seed, compile="trace", progress=False)
        except NonFiniteError:
            return False
    return True


def _said(failures: Any) -> list[str]:
    return [name.removeprefix("game[x] ") for name in failures]


def truth(toy: Modes, held: int, quality: float, looks: Sequence[Tensor]) -> list[str]:
    """How a game has failed, by its samples: of the end, and of looks on its way.

    - collapse: fewer than nine in ten modes hold a tenth of their even share at the end;
    - cycles: over the later half samples go from mode to mode: from one look to the next, the share that changes its
      nearest mode is 0.3 on average;
    - critic wins: at the end less than a tenth of the samples is at a mode, and samples are not nearer to the data, by
      a tenth, than half way, without going from mode to mode;
    - astray: at the end less than a tenth of the samples is at a mode, and the critic has not won.
    """
    half = looks[len(looks) // 2 - 1 :]
    exact = toy.sample(LOOKS, 0)
    middle, end = (diagnostics.sliced_wasserstein(look, exact) for look in (half[0], half[-1]))
    cycles = _wandered(toy, half) > WANDERS
    found = {
        "collapse": held < COVERED * len(toy.centres),
        "critic wins": quality < AWAY and end > NEARER * middle and not cycles,
        "cycles": cycles,
    }
    found["astray"] = quality < AWAY and not found["critic wins"]
    return [kind for kind in KINDS if found[kind]]


def _wandered(toy: Modes, looks: Sequence[Tensor]) -> float:
    """The mean total variation distance between the nearest modes' shares of one look and of the next."""
    count = len(toy.centres)
    nearest = [torch.cdist(look, toy.centres).argmin(1) for look in looks]
    shares = torch.stack([torch.bincount(each, minlength=count) / LOOKS for each in nearest])
    return float(shares.diff(dim=0).abs().sum(1).mean() / 2)


def has_failed(game: Mapping[str, Any]) -> bool:
    """Whether it failed in one of the ways, or less than 0.3 of its samples are at a mode at the end."""
    return bool(game["truth"]) or game["quality"] < QUALITY


@dataclass(frozen=True)
class Agreement:
    """Of warnings with the truth: counts of games."""

    right: int
    false: int
    missed: int

    def __str__(self) -> str:
        return f"{_share(self.right, self.false)} | {_share(self.right, self.missed)}"


def _share(right: int, wrong: int) -> str:
    count = right + wrong
    if not count:
        return "none"
    likely = (right + 1) / (count + 2)
    return f"{right / count:.2f} ± {math.sqrt(likely * (1 - likely) / count):.2f} ({right} of {count})"


def agreement(games: Sequence[Mapping[str, Any]], monitor: str, kind: str | None = None) -> Agreement:
    """Of a monitor with the truth, about one kind of failure or about any."""
    warned = [bool(game[monitor]) if kind is None else kind in game[monitor] for game in games]
    failed = [has_failed(game) if kind is None else kind in game["truth"] for game in games]
    pairs = list(zip(warned, failed, strict=True))
    return Agreement(pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)))
