"""Auto-Encoding Variational Bayes on MNIST: the test ELBO against training samples seen.

Kingma and Welling (2014), section 5 and figure 2, upper row: a VAE with 500 hidden units in the
encoder and in the decoder, a Bernoulli likelihood, and N_z = 3, 5, 10, 20 and 200 latents.

    make reproduce NAME=aevb-mnist DATA_DIR=folder-that-holds-mnist
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch
from _aevb import BATCH_SIZE, EVALUATED, LEARNING_RATE, Fit, draw, fit, superfluous
from _page import (
    Row,
    arguments,
    cost,
    estimate,
    gap,
    number,
    picture_path,
    table,
    write_section,
)
from torch import Tensor

from ppl_genmodels import data, models

NAME = "aevb-mnist"
LATENT_DIMS = (3, 5, 10, 20, 200)
MAIN = 20
"""The latent dimension with a number to reach, fitted with every seed; the others with the first."""
TARGET = -105.0
IMAGES, PARTICLES = 1000, 500


def main() -> None:
    """Fits, evaluates, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=20, seeds=3)
    train, test = (binary_images(options.data_dir / "mnist", split) for split in ("train", "test"))
    fits = {
        latent_dim: [
            fit(partial(vae, latent_dim), train, test, options.epochs, seed)
            for seed in range(options.seeds if latent_dim == MAIN else 1)
        ]
        for latent_dim in LATENT_DIMS
    }
    tight = fits[MAIN][0].fitted.log_evidence(test[:IMAGES], num_particles=PARTICLES)
    first = [one for one, *_ in fits.values()]
    draw(picture_path(options.page, "aevb_mnist"), first, fits[MAIN][0], test, (28, 28))
    command = f"make reproduce NAME={NAME} ARGS='--epochs {options.epochs} --seeds {options.seeds}'"
    text = section(fits, tight.cpu(), command, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def binary_images(folder: Path, split: str) -> Tensor:
    """Images (rows, 784), each pixel drawn once from its grey level: one draw for all runs."""
    seed = {"train": 0, "test": 1}[split]
    return torch.from_numpy(data.load(folder, split, binarize="sample", seed=seed).data)


def vae(latent_dim: int) -> models.VAE:
    """The paper's network; its hidden units are tanh, these are rectified."""
    return models.VAE(data_dim=784, latent_dim=latent_dim, hidden=(500,), likelihood="bernoulli")


def table_rows(fits: dict[int, list[Fit]], tight: Tensor) -> list[Row]:
    """One row for each thing that the paper shows or that was asked for."""
    main = fits[MAIN]
    value = torch.stack([one.test for one in main]).mean()
    means = {n: runs[0].test.mean() for n, runs in fits.items()}
    rising = all(means[a] < means[b] for a, b in ((3, 5), (5, 10), (10, 20)))
    others = [
        Row(f"test ELBO, N_z = {n}", "a curve, no number", estimate([one.test for one in fits[n]]))
        for n in LATENT_DIMS
        if n != MAIN
    ]
    return [
        Row(
            f"test ELBO, N_z = {MAIN}",
            f"about −100 (figure, approx.); asked: above {number(TARGET)}",
            estimate([one.test for one in main]),
            bool(value > TARGET),
        ),
        *others,
        Row(
            "test ELBO rises over N_z = 3, 5, 10, 20",
            "yes (figure)",
            " < ".join(number(means[n]) for n in (3, 5, 10, 20)) if rising else "no",
            rising,
        ),
        superfluous(fits[200], main),
        *(
            Row(
                f"training ELBO less test ELBO, N_z = {n}",
                "a curve, no number",
                gap(fits[n][0].train, fits[n][0].test),
            )
            for n in (MAIN, 200)
        ),
        Row(
            f"importance-weighted bound, N_z = {MAIN}, {PARTICLES} particles, first {len(tight)} test images",
            "not reported",
            f"{estimate([tight])}; their ELBO is {number(main[0].test[: len(tight)].mean())}",
        ),
        Row("wake-sleep below AEVB at every N_z", "yes (figure)", "to come"),
    ]


def section(fits: dict[int, list[Fit]], tight: Tensor, command: str, cost: str) -> str:
    """The section in Markdown."""
    one = fits[MAIN][0]
    return f"""
## AEVB on MNIST

Kingma and Welling (2014), *Auto-Encoding Variational Bayes*, figure 2.

```
{command}
```

{table(table_rows(fits, tight))}

![Test and training ELBO against training samples seen; reconstructions](reproductions/aevb_mnist.png)

- **Data**: {one.samples_per_epoch:,} training and {len(one.test):,} test images. Each pixel is
  binarised once, by a draw from its grey level with a fixed seed (static binarisation), test
  images with a seed of their own. The paper does not say how it treats grey pixels, so its level
  is comparable to a few nats only.
- **Here and there**: rectified hidden units where the paper has tanh; Adam, from
  {LEARNING_RATE:g} down to 0 as a cosine, in batches of {BATCH_SIZE}, where the paper has
  Adagrad, in batches of 100. The learning rate was chosen on training images set aside; nothing
  was chosen by the test images.
- **Samples seen**: {one.samples:,}, where the paper's axis runs to 10^8.
- **Evaluation**: the test ELBO is that of the last weights, with one draw from the guide for each
  image; the training ELBO is that of the first {min(EVALUATED, one.samples_per_epoch):,} images.
- **Cost**: {cost}, for all fits and their evaluation.
"""


if __name__ == "__main__":
    main()
