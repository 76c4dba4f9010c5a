"""What the two experiments of Kingma and Welling (2014), figure 2, have in common.

Convention of this module: one fit has one latent dimension and one seed; bounds are in nats per
datum; test data are evaluated after each epoch for the curve, and nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _page import Row, estimate
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, inference

BATCH_SIZE = 128
LEARNING_RATE = 2e-3
PICTURE_COLORS = 96
"""Colours kept in a picture, so that its file stays small."""
EVALUATED = 10_000
"""Training data on which the final bound is computed, the first ones."""


@dataclass(frozen=True)
class Fit:
    """One fit and its bounds: the ELBO of each test datum, and of each of the first training data,
    shape (data,).
    """

    latent_dim: int
    fitted: ppl.Fitted
    test: Tensor
    train: Tensor
    samples_per_epoch: int

    def curve(self) -> tuple[Any, Any, Any]:
        """After each epoch: training samples seen, mean objective over the epoch, test ELBO."""
        by_epoch = self.fitted.history.groupby("epoch")
        train, test = by_epoch["objective"].mean(), by_epoch["validation"].last()
        return self.samples_per_epoch * np.arange(1, len(train) + 1), train, test

    @property
    def samples(self) -> int:
        """Training samples seen."""
        return int(self.curve()[0][-1])


def fit(build: Callable[[], torch.nn.Module], train: Tensor, test: Tensor, epochs: int, seed: int) -> Fit:
    """Fits the VAE that ``build`` makes by Adam, whose learning rate falls to 0 as a cosine."""
    torch.manual_seed(seed)
    steps = epochs * -(-len(train) // BATCH_SIZE)
    fitted = ppl.fit(
        build(),
        train,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, fused=True),
        callbacks=[inference.LearningRate(partial(CosineAnnealingLR, T_max=steps))],
        validation=test,
        seed=seed,
    )
    latent_dim = fitted.program.options["latent_dim"]
    bounds = elbo(fitted, test), elbo(fitted, train[:EVALUATED])
    print(f"N_z={latent_dim}, seed {seed}: test ELBO {bounds[0].mean():.2f}", flush=True)
    return Fit(latent_dim, fitted, *bounds, len(train))


def superfluous(more: Sequence[Fit], fewer: Sequence[Fit]) -> Row:
    """What latents beyond those needed cost on test data; no verdict, since the paper's section 5 gives no number."""
    differences = [a.test - b.test for a, b in zip(more, fewer, strict=False)]
    quantity = f"test ELBO at N_z = {more[0].latent_dim} less that at {fewer[0].latent_dim}"
    return Row(quantity, "superfluous latents do not overfit (section 5), no number", estimate(differences))


def elbo(fitted: ppl.Fitted, data: Tensor) -> Tensor:
    """The ELBO of each datum: the importance-weighted bound with a single particle, shape (data,)."""
    return fitted.log_evidence(data, num_particles=1).cpu()


def draw(path: Path, fits: Sequence[Fit], shown: Fit, data: Tensor, image_shape: tuple[int, int]) -> None:
    """The curves of all fits, and reconstructions of test data by one of them, as a PNG."""
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_curves(left, fits)
    diagnostics.plot_reconstructions(shown.fitted, data, n=36, image_shape=image_shape, ax=right)
    title = f"test data and reconstructions, $N_z$ = {shown.latent_dim}"
    right.set_title("")
    right.set_title(title, loc="left", fontsize=11, fontweight="normal")
    figure.savefig(path, dpi=90)
    Image.open(path).convert("RGB").quantize(PICTURE_COLORS).save(path, optimize=True)


def _draw_curves(axes: Axes, fits: Sequence[Fit]) -> None:
    colors = colormaps["viridis"](np.linspace(0.0, 0.88, len(fits)))
    for one, color in zip(fits, colors, strict=True):
        samples, train, test = one.curve()
        axes.plot(samples, test, color=color, label=f"$N_z$ = {one.latent_dim}")
        axes.plot(samples, train, color=color, linestyle="--", linewidth=1)
    low, high = _interesting(fits)
    axes.set_ylim(low, high)
    seen = [samples[test > low] for samples, _, test in (one.curve() for one in fits)]
    axes.set_xlim(left=0.9 * min(part.min() for part in seen if len(part)))
    axes.set(xscale="log", xlabel="training samples seen", ylabel="ELBO, nats per datum")
    axes.set_title("solid: test data, dashed: training data", loc="left", fontsize=11)
    axes.grid(color="#e5e7eb")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(fits))


def _interesting(fits: Sequence[Fit]) -> tuple[float, float]:
    """Limits that leave out the first steep part of the curves."""
    curves = [one.curve() for one in fits]
    low = min(float(test.quantile(0.2)) for _, _, test in curves)
    high = max(float(max(train.max(), test.max())) for _, train, test in curves)
    return low - 0.15 * (high - low), high + 0.05 * (high - low)
