"""Auto-Encoding Variational Bayes on Frey faces: the test ELBO against training samples seen.

Kingma and Welling (2014), section 5 and figure 2, lower row: a VAE with 200 hidden units in the
encoder and in the decoder, a Gaussian likelihood, and N_z = 2, 5, 10 and 20 latents.

    make reproduce NAME=aevb-frey-faces DATA_DIR=folder-that-holds-frey_faces
"""

from __future__ import annotations

import itertools
import time
from functools import partial
from pathlib import Path

import torch
from _aevb import BATCH_SIZE, LEARNING_RATE, Fit, draw, fit, superfluous
from _page import Row, arguments, cost, estimate, gap, number, picture_path, table, write_section
from torch import Tensor

from ppl_genmodels import data, models

NAME = "aevb-frey-faces"
LATENT_DIMS = (2, 5, 10, 20)
IMAGE_SHAPE = (28, 20)
HELD_OUT = 200
"""Frames of the test part, and of the validation part of the usual split, which no fit sees."""


def main() -> None:
    """Fits, evaluates, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=600, seeds=3)
    train, test = frames(options.data_dir / "frey_faces" / "frey_faces.npy")
    fits = {
        latent_dim: [fit(partial(vae, latent_dim), train, test, options.epochs, seed) for seed in range(options.seeds)]
        for latent_dim in LATENT_DIMS
    }
    first = [one for one, *_ in fits.values()]
    draw(picture_path(options.page, "aevb_frey_faces"), first, first[-1], test, IMAGE_SHAPE)
    command = f"make reproduce NAME={NAME} ARGS='--epochs {options.epochs} --seeds {options.seeds}'"
    text = section(fits, command, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def frames(path: Path) -> tuple[Tensor, Tensor]:
    """Frames (rows, 560) with pixels in (0, 1), shuffled: those to train on, those to test on."""
    levels = torch.tensor(data.load(path).data).flatten(1)
    order = torch.randperm(len(levels), generator=torch.Generator().manual_seed(0))
    pixels = (levels[order] + 0.5) / 256
    return pixels[: -2 * HELD_OUT], pixels[-HELD_OUT:]


def vae(latent_dim: int) -> models.VAE:
    """The paper's network, with rectified hidden units and one learned scale for all pixels."""
    return models.VAE(data_dim=560, latent_dim=latent_dim, hidden=(200,), likelihood="gaussian")


def table_rows(fits: dict[int, list[Fit]]) -> list[Row]:
    """One row for each thing that the paper shows."""
    means = [torch.stack([one.test for one in runs]).mean() for runs in fits.values()]
    rising = all(a < b for a, b in itertools.pairwise(means))
    return [
        *(
            Row(
                f"test ELBO, N_z = {n}",
                "another likelihood, see below",
                estimate([one.test for one in runs]),
            )
            for n, runs in fits.items()
        ),
        Row(
            "test ELBO rises over N_z = 2, 5, 10, 20",
            "yes (figure, approx.)",
            " < ".join(map(number, means)) if rising else "no: " + ", ".join(map(number, means)),
            rising,
        ),
        superfluous(fits[20], fits[10]),
        *(
            Row(
                f"training ELBO less test ELBO, N_z = {n}",
                "another likelihood, see below",
                gap(runs[0].train, runs[0].test),
            )
            for n, runs in fits.items()
        ),
        Row("wake-sleep below AEVB at every N_z", "yes (figure)", "to come"),
    ]


def section(fits: dict[int, list[Fit]], command: str, cost: str) -> str:
    """The section in Markdown."""
    one = fits[LATENT_DIMS[-1]][0]
    scales = ", ".join(f"{runs[0].fitted.program.likelihood.scale.item():.3f}" for runs in fits.values())
    return f"""
## AEVB on Frey faces

Kingma and Welling (2014), *Auto-Encoding Variational Bayes*, figure 2.

```
{command}
```

{table(table_rows(fits))}

![Test and training ELBO against training samples seen; reconstructions](reproductions/aevb_frey_faces.png)

- **Data**: {one.samples_per_epoch:,} frames to train on and {len(one.test)} to test on, 28 x 20
  pixels (v + 0.5) / 256 of bytes v, after a shuffle with a fixed seed; {HELD_OUT} more, the
  validation part of the usual split, served to choose the learning rate and nothing else.
  Neighbouring frames of the film are alike and fall on both sides of the split.
- **Not the same likelihood**: the paper's decoder gives each pixel of each frame a variance of its
  own and a mean that a sigmoid keeps in (0, 1); here one scale is learned for all pixels and the
  mean is free. Densities on this scale of pixels shift by hundreds of nats with such a choice, so
  only orderings are compared. The scales learned here are {scales}.
- **Here and there**: rectified hidden units where the paper has tanh; Adam, from
  {LEARNING_RATE:g} down to 0 as a cosine, in batches of {BATCH_SIZE}, where the paper has
  Adagrad, in batches of 100. Nothing was
  chosen by the test frames.
- **Samples seen**: {one.samples:,}.
- **Evaluation**: the test ELBO is that of the last weights, with one draw from the guide for each
  frame.
- **Cost**: {cost}, for all fits and their evaluation.
"""


if __name__ == "__main__":
    main()
