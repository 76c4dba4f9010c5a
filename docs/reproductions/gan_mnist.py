"""Games on MNIST: WGAN-GP and BiGAN, each within twenty minutes of one core, beside a VAE of like size.

Gulrajani and others (2017), Improved Training of Wasserstein GANs; Dumoulin and others (2017), Adversarially Learned
Inference, and Donahue, Krähenbühl and Darrell (2017), Adversarial Feature Learning.

    make reproduce NAME=gan-mnist DATA_DIR=folder-that-holds-mnist
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _gan_pictures import draw, draw_health
from _page import PAGE, Row, cost, picture_path, table, write_section
from _samples import CLASSES, LEVELS, SURE, TOLD, Classifier, Measured, Returned, classifier_of, measured, returned
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

import ppl_genmodels as ppl
from ppl_genmodels import data, diagnostics, inference, models

NAME = "gan-mnist"
SHAPE, LATENT, CHANNELS = (1, 28, 28), 32, (16, 32)
GAME: dict[str, Any] = {
    "latent_dim": LATENT, "channels": CHANNELS, "bounded": True,
    "divergence": "wasserstein", "critic_steps": 2, "critic_rate": 1e-3,
}  # fmt: skip
BATCH_SIZE, LEARNING_RATE, DECAY = 64, 1e-3, 0.999
VAE_BATCH_SIZE = 128
SCALE = 0.02
"""Where BiGAN's noise starts, in parts of the range of grey."""
MEASURES = 40
"""Of each game's health over its training."""
MOST_MINUTES = 20
"""Asked for of each game."""


def main() -> None:
    """Fits, or takes what was fitted, measures, draws, and writes the section."""
    began = time.monotonic()
    options = asked()
    x, labels = images(options, "train")
    held, expected = images(options, "test")
    classifier = classifier_of(x, labels, None if options.results is None else options.results / "mnist_classifier.pt")
    wanted = [options.only] if options.only else list(FITS)
    fits = {name: kept(name, options, partial(FITS[name], x, classifier, options)) for name in wanted}
    if len(fits) < len(FITS):
        return
    right = (classifier.probabilities(held).argmax(-1) == expected).float().mean().item()
    drawn = {"training images": x[: len(held)]} | samples(fits, len(held))
    found = {name: measured(values, held, x, classifier) for name, values in drawn.items()}
    seen = {"bigan": held, "vae": bits(held)}
    back = {name: returned(fits[name], held, given, classifier) for name, given in seen.items()}
    shown = {TITLES[name]: drawn[TITLES[name]] for name in TITLES}
    returns = {"BiGAN": back["bigan"].images, "VAE": back["vae"].images}
    draw(picture_path(options.page, "gan_mnist"), held, shown, returns)
    draw_health(
        picture_path(options.page, "gan_mnist_health"), {TITLES[name]: fits[name] for name in ("wgan", "bigan")}
    )
    text = section(fits, found, back, right, options, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--epochs", type=float, default=8, help="passes of each game over the training images")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write the section to")
    parser.add_argument("--results", type=Path, help="folder that keeps each finished fit and goes on after a stop")
    parser.add_argument("--only", choices=list(FITS), help="makes one fit for --results, and no section")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return options


def images(options: argparse.Namespace, part: str) -> tuple[Tensor, Tensor]:
    """Images and labels in an order of chance: the first half of the test images is by other hands than the second."""
    loaded = data.load(options.data_dir / "mnist", part, images=True)
    order = torch.randperm(loaded.rows, generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(loaded.data)[order], torch.as_tensor(loaded.labels).long()[order]


def bits(x: Tensor) -> Tensor:
    """Images in black and white."""
    return (x > 0.5).to(x.dtype)


def kept(name: str, options: argparse.Namespace, make: Any) -> ppl.Fitted:
    """The fit from the folder of results, or else made, or ended, and put there."""
    folder = None if options.results is None else options.results / f"{name}_{options.epochs:g}"
    if folder is not None and (folder / "card.json").exists():
        return ppl.load(folder)
    clock = Clock()
    fitted: ppl.Fitted = make(clock, {"out": folder, "resume": folder is not None and folder.exists()})
    fitted.card["processor_seconds"] = clock.seconds
    if folder is not None:
        fitted.save(folder)
    print(f"{name} fitted in {clock.seconds / 60:.1f} processor minutes", flush=True)
    return fitted


class Clock(inference.Callback):
    """The processor's time of a fit, before and after a stop."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.process_time()

    def on_start(self, training: Any) -> None:
        """The clock runs."""
        self._last = time.process_time()

    def after_step(self, training: Any) -> None:
        """Adds what the step took."""
        now = time.process_time()
        self.seconds, self._last = self.seconds + now - self._last, now

    def state_dict(self) -> dict[str, Any]:
        """What was counted."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Counts on."""
        self.seconds = state["seconds"]


def fitted_game(program: Any, x: Tensor, classifier: Classifier, options: Any, clock: Clock, where: Any) -> ppl.Fitted:
    """Adam for both players at rates that fall to 0 as a cosine; averaged weights; the game's health."""
    steps = max(1, int(options.epochs * len(x) / BATCH_SIZE))
    health = inference.GameHealth(every=max(1, steps // MEASURES), modes=classifier.probabilities)
    return ppl.fit(
        program,
        x,
        steps=steps,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, betas=(0.5, 0.9), fused=True),
        callbacks=[
            inference.LearningRate(partial(CosineAnnealingLR, T_max=steps)), inference.EMA(DECAY), health, clock,
        ],
        compile="trace",
        progress=False,
        **where,
    )  # fmt: skip


def fitted_wgan(x: Tensor, classifier: Classifier, options: Any, clock: Clock, where: Any) -> ppl.Fitted:
    """The generator alone."""
    torch.manual_seed(0)
    return fitted_game(models.GAN(SHAPE, **GAME), x, classifier, options, clock, where)


def fitted_bigan(x: Tensor, classifier: Classifier, options: Any, clock: Clock, where: Any) -> ppl.Fitted:
    """Generator and inference."""
    torch.manual_seed(0)
    return fitted_game(models.BiGAN(SHAPE, scale=SCALE, **GAME), x, classifier, options, clock, where)


def fitted_vae(x: Tensor, classifier: Classifier, options: Any, clock: Clock, where: Any) -> ppl.Fitted:
    """A VAE with the same convolutions, of black and white pixels; its means are grey."""
    torch.manual_seed(0)
    return ppl.fit(
        models.ConvVAE(SHAPE, LATENT, CHANNELS),
        bits(x),
        steps=max(1, int(options.epochs * len(x) / VAE_BATCH_SIZE)),
        batch_size=VAE_BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, fused=True),
        callbacks=[inference.EMA(DECAY), clock],
        compile="trace",
        progress=False,
        **where,
    )


FITS = {"wgan": fitted_wgan, "bigan": fitted_bigan, "vae": fitted_vae}
TITLES = {"wgan": "WGAN-GP", "bigan": "BiGAN", "vae": "VAE, means"}


@torch.no_grad()
def samples(fits: Mapping[str, ppl.Fitted], rows: int) -> dict[str, Tensor]:
    """Of every program; of the VAE the means of the likelihood."""
    torch.manual_seed(1)
    means = models.adversarial_autoencoder.mean_data(fits["vae"].program, rows)
    made = [fits["wgan"].program.generate(rows), fits["bigan"].program.generate(rows), means]
    return {title: values.clamp(0, 1) for title, values in zip(TITLES.values(), made, strict=True)}


def processor_minutes(fitted: ppl.Fitted) -> float:
    """What the fit took."""
    return float(fitted.card["processor_seconds"]) / 60


def rows_of(fits: Mapping[str, ppl.Fitted], found: Mapping[str, Measured], back: Mapping[str, Returned]) -> list[Row]:
    """What was asked."""
    games = {name: found[TITLES[name]] for name in ("wgan", "bigan")}
    times = {name: processor_minutes(fits[name]) for name in games}
    one, other = back["bigan"], back["vae"]
    return [
        Row(
            "processor minutes of WGAN-GP, BiGAN",
            f"asked: at most {MOST_MINUTES}",
            ", ".join(f"{value:.1f}" for value in times.values()),
            max(times.values()) <= MOST_MINUTES,
        ),
        Row(
            "digits among the samples of WGAN-GP, BiGAN, each with at least a fiftieth",
            f"asked: {CLASSES}",
            ", ".join(str(int((each.shares > 0.02).sum())) for each in games.values()),
            all(bool((each.shares > 0.02).all()) for each in games.values()),
        ),
        Row(
            "BiGAN's reconstructions with the label of their original (VAE's)",
            "by chance: 0.10",
            f"{share(one.kept)} ({share(other.kept)})",
        ),
        Row(
            "mean squared error of BiGAN's reconstructions; of another image's (VAE's)",
            "asked: less than another's",
            f"{mean(one.error)}; {mean(one.at_random)} ({mean(other.error)}; {mean(other.at_random)})",
            one.error.mean().item() < one.at_random.mean().item(),
        ),
    ]


def share(told: Tensor) -> str:
    """A share with its standard error."""
    value = told.float().mean().item()
    return f"{value:.3f} ± {(value * (1 - value) / len(told)) ** 0.5:.3f}"


def mean(values: Tensor) -> str:
    """A mean with its standard error."""
    return f"{values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f}"


def samples_table(found: Mapping[str, Measured]) -> str:
    """What was measured of each kind of samples."""
    head = [
        "| | accuracy, pixels | accuracy, features | Fréchet | precision, recall | density, coverage |"
        " rarest digit | surely a digit | nearer to training |",
        "| --- " * 9 + "|",
    ]
    return "\n".join([*head, *(line(name, each) for name, each in found.items())])


def line(name: str, each: Measured) -> str:
    """One row of the table."""
    cells = [
        name,
        f"{each.pixels.accuracy:.3f} ± {each.pixels.standard_error:.3f}",
        f"{each.features.accuracy:.3f} ± {each.features.standard_error:.3f}",
        f"{each.frechet:.2f}",
        f"{each.support.precision:.2f}, {each.support.recall:.2f}",
        f"{each.density.density:.2f}, {each.density.coverage:.2f}",
        f"{each.shares.min():.3f}",
        f"{each.sure:.3f}",
        f"p = {each.copies.p_value:.2g}",
    ]
    return "| " + " | ".join(cells) + " |"


def best(found: Mapping[str, Measured]) -> str:
    """Which samples are told apart worst."""
    made = {name: each for name, each in found.items() if name in TITLES.values()}
    by = {kind: min(made, key=lambda name: getattr(made[name], kind).accuracy) for kind in ("pixels", "features")}
    return f"Hardest to tell from held-out images: by pixels {by['pixels']}, by features {by['features']}."


def section(
    fits: Mapping[str, ppl.Fitted],
    found: Mapping[str, Measured],
    back: Mapping[str, Returned],
    right: float,
    options: argparse.Namespace,
    spent: str,
) -> str:
    """The section of the page."""
    steps = {name: int(each.history["step"].iloc[-1]) for name, each in fits.items()}
    sizes = {name: sum(each.numel() for each in fitted.program.parameters()) for name, fitted in fits.items()}
    health = " ".join(f"{TITLES[name]}: {diagnostics.describe_game(fits[name])}" for name in ("wgan", "bigan"))
    noise = fits["bigan"].program.likelihood.scale.item()
    copied = np.mean([each.copies.copies for name, each in found.items() if name in TITLES.values()])
    return f"""
## Games on MNIST

Gulrajani and others (2017), *Improved Training of Wasserstein GANs*; Dumoulin and others (2017), *Adversarially Learned
Inference*, with Donahue, Krähenbühl and Darrell (2017), *Adversarial Feature Learning*. Neither reports these
figures for MNIST; what was asked here is that both games come to digits within {MOST_MINUTES} minutes of one core
each, judged beside a VAE, and that BiGAN's guide gives digits back.

```
make reproduce NAME={NAME} ARGS='--epochs {options.epochs:g}'
```

{table(rows_of(fits, found, back))}

Samples against held-out images; an accuracy of one half means that a classifier cannot tell them apart. The first row
shows what images of the data's own distribution are given.

{samples_table(found)}

{best(found)}

![Held-out images, samples, and reconstructions](reproductions/gan_mnist.png)

![The health of both games over their steps](reproductions/gan_mnist_health.png)

- **Programs**: `GAN` ({sizes["wgan"]:,} parameters), `BiGAN` ({sizes["bigan"]:,}) and `ConvVAE` ({sizes["vae"]:,}),
  with {LATENT} latent numbers and convolutions of {CHANNELS[0]} and {CHANNELS[1]} channels. The games' generators end
  in a sigmoid. Wasserstein distance with the gradient penalty of weight 10, {GAME["critic_steps"]} steps of the critic
  before each of the program; {steps["wgan"]:,} and {steps["bigan"]:,} steps of {BATCH_SIZE} images by Adam at
  {LEARNING_RATE:g} for either player, falling to 0 as a cosine; averaged weights. The VAE has {steps["vae"]:,} steps
  of {VAE_BATCH_SIZE} images in black and white, cut at one half, {processor_minutes(fits["vae"]):.1f} processor
  minutes. Its samples are the means of the pixels, which are grey; with Gaussian pixels of a learned scale they were
  worse.
- **Noise**: BiGAN's likelihood draws its noise in the game. It starts with a deviation of {SCALE:g} and ends with
  {noise:.4f} of the range of grey: images have no noise, and a critic sees noise before anything else. Samples and
  reconstructions of BiGAN are means.
- **Accuracy**: of `classifier_two_sample`, a perceptron on {TOLD:,} samples and as many test images, by
  cross-validation; on pixels rounded to {LEVELS} levels, of samples and of images, so that backgrounds that are nearly
  zero tell nothing, and on the features below.
- **Features**: the 64 of a classifier with two convolutions, {right:.3f} of the test labels right, fitted to the
  training images. Fréchet distances are of {len(back["vae"].kept):,} samples in the features' squared units, and
  compare within this table alone. *Rarest digit* is its share among the samples, *surely a digit* the share that the
  classifier gives a probability above {SURE:g}.
- **Copies**: *nearer to training* is how often samples of the data's own distribution would lie as near to the training
  images as these do; small values would be copying, and the first row shows what copies get. The share of samples that
  are a training image but for rounding is {copied:.3f}.
- **Health**: {health}
- **Cost**: {spent}, less what was kept from before.
"""


if __name__ == "__main__":
    main()
