"""Glow on MNIST of 256 grey levels: bits per dimension, and samples at several temperatures.

Kingma and Dhariwal (2018), Glow: Generative Flow with Invertible 1x1 Convolutions, fitted for half an hour on a
processor; the paper does not report MNIST, Grathwohl and others (2019), FFJORD, table 2, do.

    make reproduce NAME=glow-mnist DATA_DIR=folder-that-holds-mnist
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _page import Row, arguments, cost, picture_path, table, write_section
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

import ppl_genmodels as ppl
from ppl_genmodels import data, diagnostics, handlers, inference, models
from ppl_genmodels.models.image_flow import LARGEST_SCALE

NAME = "glow-mnist"
IMAGE_SHAPE = (1, 28, 28)
DEPTH, HIDDEN = 8, 48
BATCH_SIZE = 128
LEARNING_RATE, WARM_UP, MAX_NORM = 1e-2, 200, 500.0
PUBLISHED = {"RealNVP": 1.06, "Glow": 1.05, "FFJORD": 0.99}
"""Bits per dimension in Grathwohl and others (2019), table 2, quoted from memory."""
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SAMPLES = 14
IMAGES, PARTICLES = 500, 64
"""How many test images have an importance-weighted bound too, and by how many particles."""


def main() -> None:
    """Fits, or takes what was fitted, evaluates, draws, and writes the section."""
    options = arguments(__doc__ or "", epochs=12, seeds=1, results=True)
    test = grey_images(options.data_dir / "mnist", "test")
    fitted = kept_or_fitted(options)
    bounds = fitted.log_evidence(test, num_particles=1)
    tight = fitted.log_evidence(test[:IMAGES], num_particles=PARTICLES)
    draw(picture_path(options.page, "glow_mnist"), fitted)
    arguments_given = f"--epochs {options.epochs} --threads {options.threads} --compile {options.compile}"
    command = f"make reproduce NAME={NAME} ARGS='{arguments_given}'"
    text = section(fitted, bounds, tight, command)
    write_section(options.page, NAME, text)
    print(text)


def grey_images(folder: Path, split: str) -> Tensor:
    """Grey levels between 0 and 1, (rows, 1, 28, 28)."""
    return torch.from_numpy(data.load(folder, split, images=True).data)


def kept_or_fitted(options: argparse.Namespace) -> ppl.Fitted:
    """The fit from the folder of results, or else made and put there."""
    folder = None if options.results is None else options.results / f"{NAME}_{options.epochs}"
    if folder is not None and (folder / "card.json").exists():
        return ppl.load(folder)
    return fit(grey_images(options.data_dir / "mnist", "train"), options.epochs, options.compile, folder)


def fit(train: Tensor, epochs: int, compile: Any, folder: Path | None) -> ppl.Fitted:
    """Maximum likelihood of the dequantized images, at a learning rate that falls to 0 as a cosine."""
    torch.manual_seed(0)
    steps = epochs * -(-len(train) // BATCH_SIZE)
    schedule = inference.LearningRate(partial(LambdaLR, lr_lambda=partial(rate, steps=steps)))
    began, resumed = time.process_time(), folder is not None and folder.exists()
    fitted = ppl.fit(
        models.Glow(IMAGE_SHAPE, depth=DEPTH, hidden=HIDDEN),
        train,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, betas=(0.9, 0.99), fused=True),
        callbacks=[schedule, inference.GradientClipping(MAX_NORM)],
        compile=compile,
        out=folder,
        resume=resumed,
    )
    if not resumed:
        fitted.card["processor_seconds"] = time.process_time() - began
    if folder is not None:
        fitted.save(folder)
    return fitted


def rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: up in a line, down as a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def draw(path: Path, fitted: ppl.Fitted) -> None:
    """A row of samples at each temperature, by the same noise in each."""
    figure = Figure(figsize=(8.4, 3.6))
    figure.subplots_adjust(left=0.08, right=0.995, bottom=0.01, top=0.99, hspace=0.06)
    for axes, temperature in zip(figure.subplots(len(TEMPERATURES)), TEMPERATURES, strict=True):
        with handlers.temper(temperature=temperature):
            images = fitted.sample(SAMPLES, seed=1)["x"][:, 0]
        axes.imshow(torch.cat(list(images), -1).numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(f"T = {temperature:.1f}", rotation=0, ha="right", va="center", fontsize=9)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=110)
    Image.open(path).convert("L").quantize(32).save(path, optimize=True)


def table_rows(bounds: Tensor, tight: Tensor) -> list[Row]:
    """The bits per dimension beside those that were published."""
    whole, some = diagnostics.bits_per_dimension(bounds, IMAGE_SHAPE), bits(tight)
    published = ", ".join(f"{name} {value:.2f}" for name, value in PUBLISHED.items())
    return [
        Row(
            "test bits per dimension, ELBO with uniform dequantization",
            f"{published} (FFJORD, table 2, from memory)",
            bits(bounds),
            whole.mean <= PUBLISHED["Glow"],
        ),
        Row(
            f"the same, importance-weighted by {PARTICLES} particles, first {len(tight)} test images",
            "not reported",
            f"{some}; their ELBO is {bits(bounds[: len(tight)])}",
        ),
    ]


def bits(log_evidence: Tensor) -> str:
    """Bits per dimension with the standard error."""
    found = diagnostics.bits_per_dimension(log_evidence, IMAGE_SHAPE)
    return f"{found.mean:.3f} ± {found.standard_error:.3f}"


def section(fitted: ppl.Fitted, bounds: Tensor, tight: Tensor, command: str) -> str:
    """The section in Markdown."""
    history = fitted.history
    parameters = sum(each.numel() for each in fitted.program.parameters())
    wall = float(history["time"].iloc[-1])
    minutes = f"{wall / 60:.0f} minutes of wall time"
    processor = fitted.card.get("processor_seconds")
    if processor is not None:
        minutes += (
            f"; its processor time, which other work on the machine does not lengthen, is {processor / 60:.0f} minutes"
        )
    return f"""
## Glow on MNIST

Kingma and Dhariwal (2018), *Glow: Generative Flow with Invertible 1x1 Convolutions*, which does not report MNIST;
Grathwohl and others (2019), *FFJORD*, table 2, do, for a Glow of their own.

```
{command}
```

{table(table_rows(bounds, tight))}

![Samples at temperatures 0.5 to 1.0, a row for each](reproductions/glow_mnist.png)

- **Data**: 256 grey levels at 28x28; a bit per dimension is {math.prod(IMAGE_SHAPE) * math.log(2):.0f} nats per image.
- **Bound**: the latent site is the continuous image, its guide uniform on the cells of the levels; the ELBO is a bound
  on the log-probability of the levels, so that the bits are an upper bound on those of the model.
- **Here and there**: 2 scales of {DEPTH} steps with {HIDDEN} hidden channels, {parameters:,} parameters; the published
  ones are larger and were trained for longer (from memory).
- **Length**: {len(history):,} steps of {BATCH_SIZE} images by Adam, from {LEARNING_RATE:g} down to 0 as a cosine,
  gradients clipped at norm {MAX_NORM:g}. Sizes and learning rate were chosen by fits of 300 steps on training images;
  nothing was chosen by the test images. Couplings stretch by at most {LARGEST_SCALE:g}: where they might by 1000, a fit
  was stopped at step 1454 by a batch whose gradient overflowed.
- **Picture**: a row for each temperature, 0.5 at the top to 1.0, by the same noise in each row.
- **Cost**: the fit took {minutes};
  on {cost(wall).partition(" minutes on ")[2]}.
"""


if __name__ == "__main__":
    main()
