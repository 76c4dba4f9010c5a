"""What the experiments on diffusion of digits and of MNIST have in common.

Convention of this module: a bit per dimension is one of the grey levels, whatever the program; the diffusion for bits
learns its noising by the bound, that for pictures has the cosine noising and a weight that serves them. Nothing is
chosen by the test images.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _page import Row
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, inference, models
from ppl_genmodels.objectives import denoising

LEARNING_RATE, WARM_UP, DECAY = 2e-3, 200, 0.999
BOUND = denoising("v", times="importance")
REPEATS = 8
"""Times at which each test image's bound in continuous time is estimated."""
CHAINS = (10, 100, 1000)


@dataclass(frozen=True)
class Setting:
    """Data and sizes.

    Attributes:
        name: Of the section.
        train: Grey levels between 0 and 1, (rows, 1, height, width).
        test: As many as are evaluated.
        options: Of the diffusion.
        batch_size: Of the training.
        flow_images: How many test images have their density by the probability flow.
        chain_images: How many have the bound of the chains.
        samples: How many draws each few-step sampler is judged by.
        few_steps: Its numbers of steps.
    """

    name: str
    train: Tensor
    test: Tensor
    options: dict[str, Any]
    batch_size: int
    flow_images: int
    chain_images: int
    samples: int
    few_steps: tuple[int, ...] = (3, 5, 10, 20, 50, 100)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image."""
        return tuple(self.test.shape[1:])

    def program(self, noising: str) -> models.ImageDiffusion:
        """A new diffusion of these images."""
        scale = float(2 * self.train.std())
        return models.ImageDiffusion(self.shape, noising=noising, data_scale=scale, **self.options)


def kept_or_fitted(name: str, options: argparse.Namespace, make: Callable[[Path | None], ppl.Fitted]) -> ppl.Fitted:
    """The fit from the folder of results, or else made and put there."""
    folder = None if options.results is None else options.results / f"{name}_{options.epochs}"
    if folder is not None and (folder / "card.json").exists():
        return ppl.load(folder)
    began = time.process_time()
    fitted = make(folder)
    fitted.card["processor_seconds"] = time.process_time() - began
    if folder is not None:
        fitted.save(folder)
    return fitted


def fit(
    program: Any, objective: Any, train: Tensor, epochs: int, batch_size: int, compile: Any, folder: Path | None
) -> ppl.Fitted:
    """Adam at a learning rate that rises in a line and falls to 0 as a cosine; averaged weights."""
    steps = epochs * -(-len(train) // batch_size)
    schedule = inference.LearningRate(partial(LambdaLR, lr_lambda=partial(rate, steps=steps)))
    return ppl.fit(
        program,
        train,
        objective=objective,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, fused=True),
        callbacks=[schedule, inference.EMA(DECAY), inference.GradientClipping(500.0)],
        compile=compile,
        out=folder,
        resume=folder is not None and folder.exists(),
        progress=False,
    )


def rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def bits(nats: Tensor, shape: tuple[int, ...]) -> str:
    """Bits per dimension with the standard error over images."""
    found = diagnostics.bits_per_dimension(nats, shape)
    return f"{found.mean:.3f} ± {found.standard_error:.3f}"


def continuous_bound(program: models.ImageDiffusion, images: Tensor) -> Tensor:
    """The bound in continuous time of each image, in nats, shape (rows,)."""
    torch.manual_seed(0)
    objective = denoising("v", times="importance")
    found = [objective.evaluate(program, part)["denoising[v]"] for part in images.split(500) for _ in range(REPEATS)]
    return torch.cat([torch.stack(found[i : i + REPEATS]).mean(0) for i in range(0, len(found), REPEATS)])


def chain(program: models.ImageDiffusion, images: Tensor, steps: int) -> pd.DataFrame:
    """The terms of a chain's bound, with rates in bits per dimension of the grey levels, distortions of pixels."""
    torch.manual_seed(0)
    frame = diagnostics.describe_steps(program.flow, program.centred(images), steps, cell=2 / program.levels)
    return frame.assign(distortion=0.5 * frame["distortion"])


def diffusion_rows(setting: Setting, fitted: ppl.Fitted) -> list[Row]:
    """The bits of one diffusion, by every bound and by its probability flow."""
    program = fitted.program
    rows = [
        Row("diffusion, bound in continuous time", "", bits(continuous_bound(program, setting.test), setting.shape))
    ]
    some = setting.test[: setting.chain_images]
    for steps in CHAINS:
        last = chain(program, some, steps).iloc[-1]
        text = f"{last['rate']:.3f} ± {last['rate_error']:.3f}"
        rows.append(Row(f"diffusion, chain of {steps} steps, {len(some)} images", "", text))
    torch.manual_seed(0)
    density = fitted.log_evidence(setting.test[: setting.flow_images], num_particles=1)
    label = f"diffusion, density by the probability flow, {setting.flow_images} images"
    return [*rows, Row(label, "", bits(density, setting.shape))]


def compression_row(frames: dict[str, pd.DataFrame]) -> Row:
    """Whether the distortion falls at every step, and where not, by how much it rises at most."""
    rises = {name: np.diff(frame["distortion"].dropna()) for name, frame in frames.items()}
    told = [
        f"{name}: {(rise > 0).sum()} of {len(rise)} steps, by {max(rise.max(), 0.0):.4f} at most"
        for name, rise in rises.items()
    ]
    reached = all((rise <= 0).all() for rise in rises.values())
    return Row("progressive compression: steps that raise the distortion", "none", "; ".join(told), reached)


def few_steps(setting: Setting, fitted: ppl.Fitted) -> pd.DataFrame:
    """How well each sampler does with few steps, by the held-out images."""
    torch.manual_seed(0)
    data = fitted.program.centred(setting.test[: setting.samples])
    return diagnostics.sampler_quality(fitted.program.flow, data, steps=setting.few_steps)


def draw(path: Path, setting: Setting, quality: pd.DataFrame, frames: dict[str, pd.DataFrame], fitted: Any) -> None:
    """Above the samplers' curves and the rate-distortion curve, below samples and progressive generation."""
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    above, below = figure.subfigures(2, height_ratios=[1, 1.15])
    panels = above.subplots(1, 3)
    diagnostics.plot_sampler_quality(quality, axes=panels[:2])
    panels[2].set(title="progressive compression", xlabel="rate (bits per dimension)", ylabel="RMSE of pixels")
    for name, frame in frames.items():
        known = frame[frame["term"] != "decoder"]
        panels[2].plot(known["rate"], known["distortion"], label=name)
    panels[2].legend(fontsize=8)
    left, right = below.subfigures(1, 2)
    torch.manual_seed(1)
    show(left.subplots(), tiled(fitted.program.generate(64, steps=50)[:, 0], 8), "samples, DPM-Solver++, 50 steps")
    diagnostics.plot_progressive_generation(fitted.program.flow, 8, seed=1, axes=right.subplots(1, 8))
    right.suptitle("expected image on the way from noise", fontsize="medium")
    figure.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(96).save(path, optimize=True)


def show(axes: Any, image: Tensor, title: str) -> None:
    """One grey image."""
    axes.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=1)
    axes.set(title=title, xticks=[], yticks=[])


def tiled(images: Tensor, columns: int) -> Tensor:
    """Images, (rows * columns, height, width), as one, with a white line between."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    height, width = padded.shape[1:]
    return padded.reshape(-1, columns, height, width).permute(0, 2, 1, 3).reshape(-1, columns * width)


def quality_rows(quality: pd.DataFrame) -> list[Row]:
    """For each sampler its accuracy with 10 and 50 steps."""
    found = []
    for name, lines in quality.groupby("sampler", sort=False):
        by_steps = lines.set_index("steps")
        told = [
            f"{by_steps.loc[steps, 'accuracy']:.3f} ± {by_steps.loc[steps, 'standard_error']:.3f} with {steps} steps"
            for steps in (5, 10, 50)
        ]
        found.append(Row(f"classifier two-sample accuracy of {name} (0.5 by chance)", "", ", ".join(told)))
    return found


def minutes(fitted: ppl.Fitted) -> str:
    """The processor's time of a fit."""
    seconds = fitted.card.get("processor_seconds")
    return "kept" if seconds is None else f"{seconds / 60:.0f} processor minutes"
