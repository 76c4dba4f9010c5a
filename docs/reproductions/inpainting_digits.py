"""Half of held-out digits filled in: a diffusion's posterior beside a conditional VAE and nearest neighbours.

Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), figure 5, fill in textures by the product of a diffusion and
of what is known; Sohn, Lee and Yan (2015), section 5.1, fill in quadrants of digits by a conditional VAE.

    make reproduce NAME=inpainting-digits
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from _page import Row, arguments, cost, picture_path, standard_error, table, write_section
from matplotlib.figure import Figure
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.nn.functional import softplus

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Diffusion
from ppl_genmodels.inference import EMA, LearningRate, diffusion_posterior
from ppl_genmodels.models import Diffusion as DiffusionModel
from ppl_genmodels.networks import MLP

NAME = "inpainting-digits"
LEVELS, BATCH_SIZE, LEARNING_RATE, DECAY = 17, 128, 1e-3, 0.999
WIDTH, BLOCKS = 256, 3
LATENT_DIM, HIDDEN = 16, (256, 256)
PARTICLES, STEPS, DRAWS = 32, 50, 8
HELD, TOGETHER = 150, 6000
VAE_EPOCHS = 300
SHOWN, SHOWN_DRAWS = 8, 6
CELL = 2 / LEVELS / 12**0.5
"""Standard deviation of a pixel within its level, pixels between -1 and 1."""

HALVES = {
    "lower half": torch.arange(64).reshape(8, 8)[4:].flatten(),
    "right half": torch.arange(64).reshape(8, 8)[:, 4:].flatten(),
}
"""The pixels that are hidden."""

COMPARED = (
    ("label right", "diffusion, no resampling"),
    ("label right", "conditional VAE, means"),
    ("label right", "conditional VAE, draws"),
    ("distance between draws", "conditional VAE, means"),
)
"""What is asked of the particles: a measure, and the way that they are compared with."""


class Digits(nn.Module):
    """A diffusion of dequantized digits between -1 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion = DiffusionModel(event_shape=(64,), width=WIDTH, blocks=BLOCKS, data_scale=0.75)

    def model(self, x: Tensor) -> None:
        """Digits with grey levels between 0 and 1."""
        levels = x * (LEVELS - 1) + torch.rand_like(x)
        self.diffusion.model(2 * levels / LEVELS - 1)

    def given(self, seen: Tensor, visible: Tensor) -> None:
        """Digits of which some pixels are seen, to within their levels."""
        with pyro.plate("data", len(seen)):
            x = pyro.sample("x", Diffusion(self.diffusion.flow))
            pyro.sample("seen", dist.Normal(x[..., visible], CELL).to_event(1), obs=seen)


class ConditionalVAE(nn.Module):
    """Hidden pixels given the visible ones, by a latent vector whose prior knows these too."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = MLP(32, 2 * LATENT_DIM, HIDDEN)
        self.encoder = MLP(64, 2 * LATENT_DIM, HIDDEN)
        self.decoder = MLP(LATENT_DIM + 32, 32, HIDDEN)
        self.log_scale = nn.Parameter(torch.tensor(-1.0))

    def model(self, seen: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The mean of the hidden pixels, all between 0 and 1."""
        with pyro.plate("data", len(seen)):
            z = pyro.sample("z", latent(self.prior(seen)))
            mean = self.decoder(torch.cat([z, seen.expand(*z.shape[:-1], 32)], -1)).sigmoid()
            pyro.sample("hidden", dist.Normal(mean, self.log_scale.exp()).to_event(1), obs=hidden)
        return mean

    def guide(self, seen: Tensor, hidden: Tensor) -> None:
        """The latent vector given all pixels."""
        with pyro.plate("data", len(seen)):
            pyro.sample("z", latent(self.encoder(torch.cat([seen, hidden], -1))))


def latent(output: Tensor) -> dist.TorchDistribution:
    """A normal distribution from what a network says."""
    loc, raw_scale = output.chunk(2, -1)
    return dist.Normal(loc, softplus(raw_scale) + 1e-5).to_event(1)


@dataclass(frozen=True)
class Judged:
    """Of one way, values for each digit.

    Attributes:
        draws: Completed digits, shape (draw, digit, 64).
        values: By measure, shape (digit,).
    """

    draws: Tensor
    values: Mapping[str, Tensor]


def main() -> None:
    """Fits, fills in, judges, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=700, seeds=1)
    train, test = ppl.data.load("digits", "train"), ppl.data.load("digits", "test")
    given, held, labels = torch.as_tensor(train.data), torch.as_tensor(test.data)[:HELD], test.labels[:HELD]
    torch.manual_seed(0)
    diffusion = Digits()
    fit(diffusion, given, obj.denoising("x", weight="snr"), options.epochs)
    classifier = SVC(C=10.0).fit(train.data, train.labels)
    found: dict[str, dict[str, Judged]] = {}
    for half, hidden in HALVES.items():
        found[half] = {}
        for way, draws in ways(diffusion, given, held, hidden).items():
            found[half][way] = judged(draws, held, labels, hidden, classifier)
            means = {name: round(value.mean().item(), 3) for name, value in found[half][way].values.items()}
            print(f"{half}, {way}: {means}, {time.monotonic() - began:.0f} s", flush=True)
    picture(picture_path(options.page, "inpainting_digits"), held, labels, found)
    right = float((classifier.predict(held.numpy()) == labels).mean())
    command = f"make reproduce NAME={NAME} ARGS='--epochs {options.epochs}'"
    text = section(found, right, len(given), command, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def fit(program: nn.Module, data: Tensor | Mapping[str, Tensor], objective: obj.Objective | None, epochs: int) -> None:
    """Fits a program; the learning rate falls to 0 and the weights are averaged over steps."""
    rows = len(next(iter(data.values())) if isinstance(data, Mapping) else data)
    steps = epochs * -(-rows // BATCH_SIZE)
    ppl.fit(
        program,
        data,
        objective=objective,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, fused=True),
        callbacks=[LearningRate(lambda each: torch.optim.lr_scheduler.CosineAnnealingLR(each, steps)), EMA(DECAY)],
        compile="trace",
        progress=False,
    )


def ways(diffusion: Digits, given: Tensor, held: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    """Completed digits by every way, each of shape (draw, digit, 64)."""
    visible = torch.tensor([pixel for pixel in range(64) if pixel not in hidden.tolist()])
    seen = held[:, visible]
    means, noise = by_vae(given, seen, visible, hidden)
    drawn = {
        "diffusion, particles": by_particles(diffusion, seen, visible, hidden, PARTICLES),
        "diffusion, no resampling": by_particles(diffusion, seen, visible, hidden, 1),
        "conditional VAE, means": means,
        "conditional VAE, draws": means + noise,
        "nearest neighbours": by_neighbours(given, seen, visible, hidden),
    }
    return {way: completed(held, hidden, draws) for way, draws in drawn.items()}


def completed(held: Tensor, hidden: Tensor, drawn: Tensor) -> Tensor:
    """The digits with their hidden pixels replaced."""
    whole = held.expand(len(drawn), *held.shape).clone()
    whole[..., hidden] = drawn.clamp(0, 1)
    return whole


def by_particles(diffusion: Digits, seen: Tensor, visible: Tensor, hidden: Tensor, particles: int) -> Tensor:
    """Draws of the diffusion's posterior, each of a run of its own; with one particle nothing is resampled."""
    centred = (2 * (seen * (LEVELS - 1) + 0.5) / LEVELS - 1).repeat(DRAWS, 1)
    found = [
        diffusion_posterior(diffusion.given, some, visible, particles=particles, steps=STEPS, seed=number).samples[0]
        for number, some in enumerate(centred.split(TOGETHER // particles))
    ]
    draws = torch.cat(found).reshape(DRAWS, len(seen), 64)
    return ((draws[..., hidden] + 1) / 2 * LEVELS - 0.5) / (LEVELS - 1)


def by_vae(given: Tensor, seen: Tensor, visible: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the hidden pixels by a conditional VAE, for latent vectors from its prior, and their noise."""
    torch.manual_seed(0)
    program = ConditionalVAE()
    fit(program, {"seen": given[:, visible], "hidden": given[:, hidden]}, None, VAE_EPOCHS)
    with torch.no_grad():
        means = torch.stack([program.model(seen) for _ in range(DRAWS)])
        return means, program.log_scale.exp() * torch.randn_like(means)


def by_neighbours(given: Tensor, seen: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
    """The hidden pixels of the training digits whose visible ones are nearest."""
    nearest = torch.cdist(seen, given[:, visible]).topk(DRAWS, largest=False).indices
    return given[:, hidden][nearest].movedim(1, 0)


def judged(draws: Tensor, held: Tensor, labels: Tensor, hidden: Tensor, classifier: SVC) -> Judged:
    """How like the truth, how different among each other, and of which class."""
    parts, truth = draws[..., hidden], held[:, hidden]
    between = (parts.unsqueeze(0) - parts.unsqueeze(1)).square().mean(-1)
    among = between.sum((0, 1)) / (DRAWS * (DRAWS - 1))
    said = torch.as_tensor(classifier.predict(draws.flatten(0, 1).numpy())).reshape(DRAWS, -1)
    shares = (said.unsqueeze(-1) == torch.arange(10)).double().mean(0)
    return Judged(
        draws,
        {
            "error of a draw": (parts - truth).square().mean((0, 2)).sqrt(),
            "error of the mean": (parts.mean(0) - truth).square().mean(-1).sqrt(),
            "distance between draws": among.sqrt(),
            "label right": (said == torch.as_tensor(labels)).double().mean(0),
            "entropy of the label": -torch.special.xlogy(shares, shares).sum(-1),
        },
    )


def compared(found: Mapping[str, Judged]) -> str:
    """A table with a row for each way."""
    measures = list(next(iter(found.values())).values)
    head = f"| | {' | '.join(measures)} |\n|{' --- |' * (len(measures) + 1)}\n"
    lines = [f"| {way} | {' | '.join(map(with_error, one.values.values()))} |" for way, one in found.items()]
    return head + "\n".join(lines)


def with_error(values: Tensor) -> str:
    """A mean over digits with its standard error."""
    return f"{values.mean().item():.3f} ± {standard_error(values):.3f}".replace("-", "−")


def table_rows(found: Mapping[str, Mapping[str, Judged]]) -> list[Row]:
    """What the particles gain over the conditional VAE, digit by digit."""
    rows = []
    for half, by_way in found.items():
        ours = by_way["diffusion, particles"].values
        for measure, way in COMPARED:
            gain = ours[measure] - by_way[way].values[measure]
            won = bool(gain.mean() > 2 * standard_error(gain))
            rows.append(Row(f"{half}: {measure}, less {way}", "asked: above 0", with_error(gain), won))
    return rows


def picture(path: Path, held: Tensor, labels: Tensor, found: Mapping[str, Mapping[str, Judged]]) -> None:
    """One row for each digit: itself, what is visible, and draws by three ways."""
    chosen = [int((torch.as_tensor(labels) == label).nonzero()[1]) for label in range(SHOWN)]
    figure = Figure(figsize=(10, 8.4), layout="constrained")
    for axes, (half, by_way) in zip(figure.subplots(2, 1), found.items(), strict=True):
        shown = ["diffusion, particles", "conditional VAE, means", "nearest neighbours"]
        columns = [held[chosen], masked(held[chosen], HALVES[half])]
        for way in shown:
            columns += [by_way[way].draws[number, chosen] for number in range(SHOWN_DRAWS)]
        axes.imshow(sheet(torch.stack(columns, 1), SHOWN_DRAWS).numpy(), cmap="gray_r", vmin=0, vmax=1)
        starts = [0, 10, *(22 + number * (10 * SHOWN_DRAWS + 2) for number in range(len(shown)))]
        for start, title in zip(starts[2:], shown, strict=True):
            axes.text(start + 5 * SHOWN_DRAWS, -2, title, ha="center", fontsize="small")
        axes.text(5, -2, "digit", ha="center", fontsize="small")
        axes.text(15, -2, "seen", ha="center", fontsize="small")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{half} filled in", pad=18)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=96)


def masked(digits: Tensor, hidden: Tensor) -> Tensor:
    """Digits with the hidden pixels grey."""
    left = digits.clone()
    left[:, hidden] = 0.25
    return left


def sheet(digits: Tensor, group: int) -> Tensor:
    """Digits (row, column, 64) side by side, with a gap after the first two and after every group."""
    tiles = nn.functional.pad(digits.reshape(*digits.shape[:2], 8, 8), (1, 1, 1, 1))
    rows = [torch.cat(list(row), 1) for row in tiles]
    whole = torch.cat(rows, 0)
    gap = torch.zeros(len(whole), 2)
    pieces = [whole[:, :20], *whole[:, 20:].split(10 * group, 1)]
    return torch.cat([part for piece in pieces for part in (piece, gap)][:-1], 1)


def section(found: Mapping[str, Mapping[str, Judged]], right: float, rows: int, command: str, cost: str) -> str:
    """The section in Markdown."""
    tables = "\n\n".join(f"{half.capitalize()} hidden:\n\n{compared(ways)}" for half, ways in found.items())
    count = next(iter(found.values()))["nearest neighbours"].draws.shape[1]
    return f"""
## Inpainting of digits

Sohl-Dickstein and others (2015), *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, figure 5; Sohn, Lee
and Yan (2015), *Learning Structured Output Representation using Deep Conditional Generative Models*, section 5.1. On
other images; what is asked is that draws are of the right class and differ from each other.

```
{command}
```

{table(table_rows(found))}

{tables}

![Digits, what is seen of them, and draws](reproductions/inpainting_digits.png)

- **Data**: scikit-learn's digits of 8 x 8 pixels, {rows:,} to train on and {count} to fill in.
- **Measures**, means over digits with standard errors: **error** is the root mean squared one over hidden pixels, which
  lie between 0 and 1, of a draw and of the mean of {DRAWS} draws; **distance between draws** is the same between two
  draws. Of draws of the exact posterior it would be the error of a draw, as the truth is then one draw more: less
  means that draws are too sure of themselves. **Label right** is the share of draws to which a classifier (a support
  vector machine, {right:.1%} right on the whole digits) gives the digit's true label, **entropy of the label** that
  of its answers over the draws, in nats; a hidden half can leave the label open.
- **Diffusion**: one `models.Diffusion` for both halves, {BLOCKS} blocks of {WIDTH} units, and
  `inference.diffusion_posterior` with {STEPS} steps, the visible pixels known to within their grey levels. Each draw is
  of a run of its own with {PARTICLES} particles, as draws of one run have ancestors in common. **No resampling** is the
  same with one particle.
- **Conditional VAE**: one for each half, fitted to that half alone, where one diffusion serves both; {LATENT_DIM}
  latents with a prior that is read off the visible half, two layers of {HIDDEN[0]} units in each network, one learned
  scale of the pixels' noise. Its **draws** have that noise, its **means** are the decoder's output for a latent vector.
- **Nearest neighbours**: the {DRAWS} training digits whose visible halves are nearest.
- **Training**: Adam, from {LEARNING_RATE:g} down to 0 as a cosine, batches of {BATCH_SIZE}, averaged weights;
  {VAE_EPOCHS} passes for each VAE. Sizes were not tuned; the passes of the diffusion and its particles were raised
  once, from 300 and 16, after a first look at the lower halves (label right 0.79).
- **Cost**: {cost}, for all.
"""


if __name__ == "__main__":
    main()
