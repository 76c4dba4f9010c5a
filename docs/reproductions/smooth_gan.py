"""Which of three conditions on the critic make a game settle: a particle and a normal distribution.

Chu, Minami and Fukumizu (2020), Smoothness and Stability in GANs: gradient descent on the program comes to a stationary
point when the optimal critic is Lipschitz (D1), has a Lipschitz gradient (D2), and changes in proportion to the
program's distribution (D3). Here the first is held by spectral normalization, the second by smooth activations, the
third by the squared norm in a kernel's space.

    make reproduce NAME=smooth-gan
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _page import Row, arguments, cost, picture_path, table, write_section
from matplotlib import pyplot
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import NonFiniteError
from ppl_genmodels.inference import Callback
from ppl_genmodels.networks import MLP

NAME = "smooth-gan"
STEPS, CRITIC_STEPS, RATE, CRITIC_RATE = 100, 10, 0.3, 5e-3
WEIGHT = 0.2
"""Of the norm in the kernel's space: for a particle near its aim the slope is 2.5 times the distance."""
SETTLED = 0.1
"""Root mean square distance over the last fifth of the steps that counts as settled: a third of the rate, and so a
third of a step where the slope is one."""

Conditions = tuple[bool, bool, bool]
ALL: Conditions = (True, True, True)
Found = Mapping[str, Mapping[Conditions, list[Tensor]]]


class Particle(nn.Module):
    """One point, to come to the origin."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([3.0]))

    def distance(self) -> float:
        """From the origin."""
        return float(self.loc.detach().norm())

    def model(self, x: Tensor | None = None) -> None:
        """The point, once for each row; the noise has no part in it."""
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.deterministic("x", self.loc + 0.0 * z, event_dim=1)


class Normal(nn.Module):
    """A normal distribution, to become the standard one."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.scale = nn.Parameter(torch.tensor([2.0, -2.0])), nn.Parameter(torch.tensor([0.3, 0.3]))

    def distance(self) -> float:
        """The 2-Wasserstein distance."""
        return float((self.loc.square() + (self.scale.abs() - 1).square()).sum().sqrt().detach())

    def model(self, x: Tensor | None = None) -> None:
        """Location and scale of standard normal noise."""
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.deterministic("x", self.loc + self.scale * z, event_dim=1)


@dataclass(frozen=True)
class Toy:
    """A program, the data it is to be like, and its batches."""

    make: Any
    data: Tensor
    batch_size: int


def toys() -> dict[str, Toy]:
    """Both."""
    normal = torch.randn(8192, 2, generator=torch.Generator().manual_seed(0))
    return {"one particle": Toy(Particle, torch.zeros(64, 1), 8), "normal": Toy(Normal, normal, 64)}


class Distances(Callback):
    """How far the program is from its aim after each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def after_step(self, training: Any) -> None:
        """Measures."""
        self.found.append(training.program.source.distance())


def main() -> None:
    """Plays every game with every set of conditions, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=1, seeds=3)
    either = (False, True)
    every: list[Conditions] = [(one, two, three) for three in either for two in either for one in either]
    found = {
        name: {conditions: [course(toy, conditions, seed) for seed in range(options.seeds)] for conditions in every}
        for name, toy in toys().items()
    }
    draw(picture_path(options.page, "smooth_gan"), found)
    text = section(found, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def course(toy: Toy, conditions: Conditions, seed: int) -> Tensor:
    """The distance after each step; infinite from where numbers overflow."""
    torch.manual_seed(seed)
    program, distances = toy.make(), Distances()
    lipschitz, smooth, kernel = conditions
    game = obj.adversarial(
        "x",
        critic(toy.data.shape[1], lipschitz, smooth),
        divergence=obj.Wasserstein(),
        regularizers=[obj.KernelPenalty(WEIGHT)] if kernel else [],
        critic_steps=CRITIC_STEPS,
        optimizer=partial(torch.optim.Adam, lr=CRITIC_RATE, betas=(0.5, 0.9), fused=True),
    )
    descent = partial(torch.optim.SGD, lr=RATE)
    settings: dict[str, Any] = {"steps": STEPS, "batch_size": toy.batch_size, "optimizer": descent, "seed": seed}
    try:
        ppl.fit(program, toy.data, objective=-game, callbacks=[distances], compile="trace", progress=False, **settings)
    except NonFiniteError:
        distances.found += [math.inf] * (STEPS - len(distances.found))
    print(conditions, seed, f"{late(torch.tensor(distances.found)):.3g}", flush=True)
    return torch.tensor(distances.found)


def critic(features: int, lipschitz: bool, smooth: bool) -> nn.Module:
    """A perceptron."""
    network = MLP(features, 1, (32, 32), nn.ELU if smooth else nn.ReLU)
    for layer in network.layers if lipschitz else ():
        if isinstance(layer, nn.Linear):
            spectral_norm(layer)
    return network


def late(distances: Tensor) -> float:
    """The root mean square over the last fifth of the steps."""
    return float(distances[-STEPS // 5 :].square().mean().sqrt())


def settles(courses: list[Tensor]) -> bool:
    """Whether every one comes to rest at the aim."""
    return all(late(each) < SETTLED for each in courses)


def draw(path: Path, found: Found) -> None:
    """The distance over the steps: a row for each game, a column for each critic, with the third condition or not."""
    columns = {"neither": (False, False), "(D1) Lipschitz": (True, False), "(D2) smooth": (False, True)}
    columns["(D1) and (D2)"] = (True, True)
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure = pyplot.figure(figsize=(11.0, 5.2), layout="constrained")
        panels = figure.subplots(2, 4, sharex=True, sharey=True)
        for row, (name, courses) in zip(panels, found.items(), strict=True):
            for ax, (title, critic) in zip(row, columns.items(), strict=True):
                for kernel, label in ((False, "without (D3)"), (True, "with (D3)")):
                    colour = diagnostics.style.PALETTE[0 if kernel else 1]
                    for number, distances in enumerate(courses[*critic, kernel]):
                        ax.plot(distances + 1e-9, color=colour, alpha=0.8, label=None if number else label)
                ax.axhline(SETTLED, color="#717581", linestyle=":", linewidth=1)
                ax.set(yscale="log", ylim=(1e-4, 1e3), title=f"{name}: {title}")
            row[0].set_ylabel("distance from the aim")
        panels[1, 0].legend(loc="lower left")
        for ax in panels[1]:
            ax.set_xlabel("step of the program")
        figure.savefig(path, dpi=diagnostics.style.RESOLUTION)
        pyplot.close(figure)


def section(found: Found, spent: str) -> str:
    """The section's text."""
    both = [{conditions: settles(courses) for conditions, courses in toy.items()} for toy in found.values()]
    without = [conditions for conditions in both[0] if not conditions[2]]
    failed = sum(not toy[conditions] for toy in both for conditions in without)
    rows = [
        Row("settles with all three", "yes (theorem)", _of(both, ALL, found), all(toy[ALL] for toy in both)),
        Row("fails to settle without (D3)", "no guarantee", f"{failed} of {2 * len(without)} games", None),
    ]
    head = ["| (D1) | (D2) | (D3) | theory | " + " | ".join(found) + " |", "| --- " * (4 + len(found)) + "|"]
    lines = [_line(conditions, found) for conditions in sorted(both[0], key=lambda each: (sum(each), each[::-1]))]
    return f"""
## Three conditions for a game that settles

[Chu, Minami and Fukumizu (2020)](https://arxiv.org/abs/2002.04185) prove that gradient descent on a program comes to a
stationary point when its optimal critic is Lipschitz (D1, here by spectral normalization), has a Lipschitz gradient
(D2, here by ELU in place of ReLU), and moves no faster than the program's distribution (D3, here by `KernelPenalty`);
all three together are sufficient. Functions of small norm in the kernel's space are Lipschitz and have a Lipschitz
gradient themselves, so that (D3), as far as its norm is found, brings the others with it. Two games by descent at a
rate of {RATE:g}: a particle that is to come to the origin, and a normal distribution in the plane that is to become the
standard one, its location and scale learned. The table gives the root mean square distance (for the normal, the
2-Wasserstein distance) over the last fifth of {STEPS} steps, the worst of {len(found["normal"][ALL])} seeds, in bold
where all of them stay below {SETTLED:g}; "diverges" where one is above 10.

{table(rows)}

{chr(10).join([*head, *lines])}

![The distance from the aim over the steps](reproductions/smooth_gan.png)

*The distance from the aim over the steps, every seed; the dotted line is what counts as settled.*

`make reproduce NAME={NAME}`: {spent}.
"""


def _of(both: list[dict[Conditions, bool]], conditions: Conditions, found: Found) -> str:
    return ", ".join(f"{name}: {'yes' if toy[conditions] else 'no'}" for name, toy in zip(found, both, strict=True))


def _line(conditions: Conditions, found: Found) -> str:
    theory = "settles" if conditions == ALL else "no guarantee"
    held = ["✓" if each else "" for each in conditions]
    cells = [_cell(toy[conditions]) for toy in found.values()]
    return "| " + " | ".join([*held, theory, *cells]) + " |"


def _cell(courses: list[Tensor]) -> str:
    worst = max(map(late, courses))
    shown = f"{worst:.2g}" if worst < 10 else "diverges"
    return f"**{shown}**" if settles(courses) else shown


if __name__ == "__main__":
    main()
