"""Pictures of games on images: samples beside data, reconstructions, and the games' health.

Convention of this module: images are grey levels between 0 and 1, shape (rows, 1, 28, 28), drawn dark on white.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot
from torch import Tensor

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics

SIDE = 28


def draw(path: Path, test: Tensor, drawn: dict[str, Tensor], back: dict[str, Tensor]) -> None:
    """Samples of every kind in a row of grids, and below them reconstructions of held-out images."""
    grids = {"held-out images": test} | drawn
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure = pyplot.figure(figsize=(14.0, 5.0), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=(3.0, 2.2))
        for ax, (title, values) in zip(upper.subplots(1, len(grids)), grids.items(), strict=True):
            show(ax, tiled(values[:64], 8), title)
        rows = {"held out": test} | back
        ax = lower.subplots()
        show(ax, tiled(torch.cat([values[:24] for values in rows.values()]), 24), "Reconstructions")
        ax.set_yticks([SIDE * (number + 0.5) for number in range(len(rows))], list(rows))
        figure.savefig(path, dpi=diagnostics.style.RESOLUTION)
        pyplot.close(figure)


def show(ax: Any, image: Tensor, title: str) -> None:
    """One picture without axes."""
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def tiled(images: Tensor, columns: int) -> Tensor:
    """Images side by side, one shape (height, width)."""
    table = images.reshape(-1, columns, SIDE, SIDE)
    return table.permute(0, 2, 1, 3).reshape(-1, columns * SIDE)


def draw_health(path: Path, fits: dict[str, ppl.Fitted]) -> None:
    """The course of games, a column of panels for each, by their titles."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure = pyplot.figure(figsize=(12.0, 12.0), layout="constrained")
        panels = figure.subplots(5, len(fits))
        for panel, (name, fitted) in zip(panels.T, fits.items(), strict=True):
            history = fitted.history
            estimate = history[next(column for column in history if column.startswith("adversarial["))]
            smooth = estimate.rolling(max(1, len(history) // 100), min_periods=1, center=True).median()
            panel[0].plot(history["step"], smooth)
            panel[0].set(title="estimate of the distance", xlabel="step", ylabel="Wasserstein distance")
            diagnostics.plot_game(fitted, panel[1:])
            for ax in panel:
                ax.set_title(f"{name}: {ax.get_title().partition(']: ')[2] or ax.get_title()}")
        figure.savefig(path, dpi=diagnostics.style.RESOLUTION)
        pyplot.close(figure)
