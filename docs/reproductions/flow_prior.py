"""Priors that are learned: the held-out evidence of a VAE of digits with a normal, a flow and a VampPrior.

Chen and others (2017), *Variational Lossy Autoencoder*, section 3.2, put a flow as the prior of a
VAE; Tomczak and Welling (2018), *VAE with a VampPrior*, the mixture of its posteriors at learned
pseudo-inputs. The aggregate of the posteriors need not be normal: a prior that has its shape
raises the evidence.

    make reproduce NAME=flow-prior
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from _page import Row, arguments, cost, estimate, number, picture_path, standard_error, table, write_section
from matplotlib.figure import Figure
from torch import Tensor

import ppl_genmodels as ppl
from ppl_genmodels import inference, models
from ppl_genmodels.models.priors import PRIORS

NAME = "flow-prior"
LATENT_DIM, HIDDEN, BATCH_SIZE, LEARNING_RATE = 8, (500,), 32, 1e-3
PARTICLES = 1000
SHOWN = (4, 8)
"""Rows and columns of drawn digits."""


@dataclass(frozen=True)
class Fit:
    """One fit, and the evidence of each test and of the first training data, shape (data,)."""

    fitted: ppl.Fitted
    test: Tensor
    train: Tensor


def main() -> None:
    """Fits, evaluates, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=100, seeds=5)
    train, test = ppl.data.load("digits", "train"), ppl.data.load("digits", "test")
    fits = {
        prior: [fit(prior, train.data, test.data, options.epochs, seed) for seed in range(options.seeds)]
        for prior in PRIORS
    }
    draw(picture_path(options.page, "flow_prior"), [runs[0].fitted for runs in fits.values()], train)
    command = f"make reproduce NAME={NAME} ARGS='--epochs {options.epochs} --seeds {options.seeds}'"
    text = section(fits, len(train.data), command, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def fit(prior: str, train: Tensor, test: Tensor, epochs: int, seed: int) -> Fit:
    """Fits the VAE with one prior; weights are averaged over steps."""
    torch.manual_seed(seed)
    program = models.VAE(train.shape[1], LATENT_DIM, HIDDEN, likelihood="gaussian", prior=prior)
    fitted = ppl.fit(
        program,
        train,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, fused=True),
        callbacks=[inference.EMA(0.999)],
        validation=0.1,
        seed=seed,
        compile="trace",
        progress=False,
    )
    found = [fitted.log_evidence(rows, PARTICLES) for rows in (test, train[: len(test)])]
    print(f"{prior}, seed {seed}: {found[0].mean():.2f}", flush=True)
    return Fit(fitted, *found)


def table_rows(fits: dict[str, list[Fit]]) -> list[Row]:
    """One row for each prior, and one for what each learned one gains."""
    found = [Row(f"held-out evidence, {prior} prior", "other data", held_out(runs)) for prior, runs in fits.items()]
    for prior in PRIORS[1:]:
        gains = [mine.test - normal.test for mine, normal in zip(fits[prior], fits["normal"], strict=True)]
        found.append(Row(f"{prior} prior less normal prior", "above 0, other data", estimate(gains), won(gains)))
    return found


def held_out(runs: list[Fit]) -> str:
    """The evidence of the test data over all seeds."""
    return estimate([run.test for run in runs])


def won(gains: list[Tensor]) -> bool | None:
    """Whether the gain is above twice its standard error over seeds; unknown for a single seed."""
    means = torch.stack(gains).mean(1)
    return bool(means.mean() > 2 * standard_error(means)) if len(gains) > 1 else None


def draw(path: Path, fitted: list[ppl.Fitted], data: ppl.data.Dataset) -> None:
    """Above the prior behind the encoded training data, in two dims; below digits drawn from each prior."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    above, below = figure.subplots(2, 3, gridspec_kw={"height_ratios": [5, 3]})
    for one, name, top, bottom in zip(fitted, PRIORS, above, below, strict=True):
        torch.manual_seed(0)
        with torch.no_grad():
            encoded = one.program.guide(torch.as_tensor(data.data))
            prior = one.program.latents().sample((4000,))
        center = encoded.mean(0)
        plane = torch.linalg.svd(encoded - center, full_matrices=False).Vh[:2].mT
        top.scatter(*((prior - center) @ plane).T, s=4, color="#b9bec7", label="prior", rasterized=True)
        top.scatter(*((encoded - center) @ plane).T, s=4, c=data.labels, cmap="tab10", label="encoded digits")
        top.set(title=f"{name} prior", xticks=[], yticks=[])
        top.set_aspect("equal", adjustable="datalim")
        bottom.imshow(drawn(one), cmap="gray_r", vmin=0, vmax=1)
        bottom.set(xlabel="digits drawn from it", xticks=[], yticks=[])
    above[0].legend(frameon=False, loc="upper left", markerscale=3)
    figure.savefig(path, dpi=96)


def drawn(fitted: ppl.Fitted) -> Tensor:
    """Means of digits drawn from the prior, side by side in one image."""
    rows, columns = SHOWN
    torch.manual_seed(1)
    with torch.no_grad():
        digits = fitted.program.decoder(fitted.program.latents().sample((rows * columns,)))
    padded = torch.nn.functional.pad(digits.reshape(rows, columns, 8, 8), (2, 2, 2, 2))
    return padded.permute(0, 2, 1, 3).reshape(12 * rows, 12 * columns)


def section(fits: dict[str, list[Fit]], rows: int, command: str, cost: str) -> str:
    """The section in Markdown."""
    overfit = ", ".join(
        f"{prior} {number(torch.stack([run.train.mean() - run.test.mean() for run in runs]).mean())}"
        for prior, runs in fits.items()
    )
    sizes = ", ".join(
        f"{prior} {sum(p.numel() for p in (runs[0].fitted.program.prior or torch.nn.Identity()).parameters()):,}"
        for prior, runs in fits.items()
    )
    epochs = int(fits["normal"][0].fitted.history["epoch"].max()) + 1
    return f"""
## Flow prior and VampPrior on digits

Chen and others (2017), *Variational Lossy Autoencoder*, section 3.2; Tomczak and Welling (2018), *VAE
with a VampPrior*, equation 11.

```
{command}
```

{table(table_rows(fits))}

![The priors behind the encoded digits, and digits drawn from them](reproductions/flow_prior.png)

- **Not the papers' data**: both used 28 x 28 binary images, so there is no number to compare with; what is
  checked is that a learned prior raises the evidence. Reached is a gain above twice its standard error over
  seeds.
- **Data**: {rows:,} digits of 8 x 8 pixels to train on, of which a tenth is held back as validation and
  decided nothing, and {len(fits["normal"][0].test)} to test on.
- **Program**: {LATENT_DIM} latents, {HIDDEN[0]} hidden units, a Gaussian likelihood with one learned scale. The
  flow has three pairs of spline couplings with linear maps between, the VampPrior 100 pseudo-inputs;
  parameters of the prior: {sizes}. Neither was tuned.
- **Training**: {epochs} epochs of batches of {BATCH_SIZE} by Adam, {LEARNING_RATE:g}; averaged weights. The same
  seeds for every prior.
- **Evaluation**: importance-weighted with {PARTICLES:,} draws for each digit. In nats of a density of pixels
  between 0 and 1.
- **Overfitting**, training less test evidence: {overfit}.
- **Picture**: the plane of the encoded digits' largest variance, the first seed.
- **Cost**: {cost}, for all fits and their evaluation.
"""


if __name__ == "__main__":
    main()
