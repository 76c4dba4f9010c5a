"""Pictures of a swiss roll and of heartbeats on their way to noise and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from torch import Tensor

from ppl_genmodels import diagnostics
from ppl_genmodels.distributions.reverse_step import reverse_step
from ppl_genmodels.distributions.samplers import time_grid
from ppl_genmodels.models import BinomialChain


@torch.no_grad()
def draw_roll(path: Path, denoiser: Any, data: Tensor, steps: int) -> None:
    """The forward process, the reverse one, and the drift of its steps, each at three times."""
    torch.manual_seed(0)
    drawn = reversed_paths(denoiser, torch.randn_like(data), steps)
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(3, 3, figsize=(8.4, 8.6), layout="constrained")
        for column, number in enumerate((0, steps // 2, steps)):
            time = torch.tensor(number / steps)
            forward = denoiser.noisy(data, torch.randn_like(data), time) if number else data
            _dots(panels[0, column], forward)
            _dots(panels[1, column], drawn[number])
            _arrows(panels[2, column], denoiser, max(number, 1), steps)
            panels[0, column].set_title(("t = 0", "t = T/2", "t = T")[column])
        for panel, label in zip(panels[:, 0], ("forward", "reverse", "drift of a reverse step"), strict=True):
            panel.set_ylabel(label)
        figure.savefig(path, dpi=75)
        pyplot.close(figure)


def reversed_paths(denoiser: Any, noise: Tensor, steps: int) -> list[Tensor]:
    """Values of the reverse chain at each of its times, those of time 0 first."""
    times = time_grid(steps, noise)
    values = [denoiser.scales(times[0])[1] * noise]
    for time, earlier in pairwise(times):
        mean, variance = reverse_step(denoiser, denoiser(values[-1], time), values[-1], time, earlier)
        values.append(mean + variance.sqrt() * torch.randn_like(noise))
    return values[::-1]


def _dots(panel: Axes, points: Tensor) -> None:
    panel.scatter(*points[:3000].T, s=1.5, linewidths=0, rasterized=True)
    panel.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")


def _arrows(panel: Axes, denoiser: Any, number: int, steps: int) -> None:
    side = torch.linspace(-2.7, 2.7, 19)
    places = torch.cartesian_prod(side, side)
    time, earlier = (torch.tensor(each / steps) for each in (number, number - 1))
    mean, _ = reverse_step(denoiser, denoiser(places, time), places, time, earlier)
    panel.quiver(*places.T, *(mean - places).T, angles="xy", width=0.004)
    panel.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")


@torch.no_grad()
def reversed_bits(chain: BinomialChain, noise: Tensor, kept: Sequence[int]) -> list[Tensor]:
    """Bits of the reverse chain after the steps of some numbers, and those of the data last."""
    denoiser, value, found = chain.denoiser, noise, []
    times = [denoiser.rate.new_tensor(number / chain.steps) for number in range(chain.steps + 1)]
    for number in range(chain.steps, 1, -1):
        if number in kept:
            found.append(value)
        said = denoiser(value, times[number])
        value = denoiser.step(value, said, times[number], times[number - 1]).sigmoid().bernoulli()
    return [*found, denoiser(value, times[1]).sigmoid().bernoulli()]


def draw_beats(path: Path, sheets: Mapping[str, Tensor]) -> None:
    """Sheets of bits side by side, a row for each sequence, the first thirty of each."""
    with pyplot.rc_context(diagnostics.style.STYLE | {"axes.grid": False}):
        figure, panels = pyplot.subplots(1, len(sheets), figsize=(2.2 * len(sheets), 3.9), layout="constrained")
        for panel, (title, bits) in zip(panels, sheets.items(), strict=True):
            panel.imshow(bits[:30].numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
            panel.set(title=title, xlabel="time bin", xticks=[0, 5, 10, 15], yticks=[])
        panels[0].set_ylabel("sequence")
        figure.savefig(path, dpi=80)
        pyplot.close(figure)
