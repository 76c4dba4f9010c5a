"""Posteriors of a diffusion given a measurement, against the truth: a mixture as the prior, a linear measurement.

Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), section 2.5, multiply a diffusion by another density; Wu and
others (2023) make that exact by twisted particles.

    make reproduce NAME=diffusion-posterior
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _mixtures import Measurement, Mixture, MixtureDenoiser
from _page import Row, arguments, cost, picture_path, table, write_section
from matplotlib.figure import Figure
from torch import Tensor

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Diffusion, generate
from ppl_genmodels.inference import EMA, LearningRate, diffusion_posterior
from ppl_genmodels.models import Diffusion as DiffusionModel
from ppl_genmodels.networks import CosineNoising, Guided
from ppl_genmodels.transforms import ProbabilityFlow

NAME = "diffusion-posterior"
DRAWS, RUNS, STEPS = 4000, 8, 100
GIVEN, BATCH_SIZE = 100_000, 256
MOST_TRIED = 2_000_000
LIMIT = 0.6
"""Accuracy of the classifier below which two samples count as the same."""


@dataclass(frozen=True)
class Case:
    """A prior and what was measured of one of its draws."""

    prior: Mixture
    measurement: Measurement


@dataclass(frozen=True)
class Found:
    """What a way has found: draws, the errors of its log evidences, and how many of how many draws count."""

    draws: Tensor
    errors: Tensor | None
    size: str
    accuracy: float = math.nan


def plane() -> Case:
    """Two numbers, of which one combination is measured: two of five components, far apart, explain it."""
    angle = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5
    means = 1.4 * torch.stack([angle.cos(), angle.sin()], -1)
    along = torch.stack([-angle.sin(), angle.cos()], -1)
    covariances = 0.02 * torch.eye(2, dtype=torch.float64) + 0.15 * along.unsqueeze(-1) * along.unsqueeze(-2)
    weights = torch.tensor([0.3, 0.1, 0.2, 0.1, 0.3], dtype=torch.float64)
    return Case(
        Mixture(weights, means, covariances),
        Measurement(torch.tensor([[0.8, 0.6]]).double(), 0.3, torch.tensor([-0.3]).double()),
    )


def space() -> Case:
    """Eight numbers, of which three combinations are measured: ten components."""
    generator = torch.Generator().manual_seed(8)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    factor = draw(10, 8, 3) / 3
    covariances = factor @ factor.mT + 0.02 * torch.eye(8, dtype=torch.float64)
    prior = Mixture(torch.full((10,), 0.1, dtype=torch.float64), draw(10, 8), covariances)
    matrix = draw(3, 8) / 8**0.5
    return Case(prior, Measurement(matrix, 0.2, matrix @ prior.means[0] + 0.2 * draw(3)))


def main() -> None:
    """Draws by every way, compares, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=20, seeds=1)
    cases = {"2 numbers, 1 measured": plane(), "8 numbers, 3 measured": space()}
    found = {name: of_case(name, case, options.epochs) for name, case in cases.items()}
    draw(picture_path(options.page, "diffusion_posterior"), *next(zip(cases.values(), found.values(), strict=True)))
    command = f"make reproduce NAME={NAME} ARGS='--epochs {options.epochs}'"
    text = section(found, options.epochs, command, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def of_case(name: str, case: Case, epochs: int) -> dict[str, Found]:
    """Every way, compared with draws of the exact posterior by a classifier."""
    torch.manual_seed(0)
    posterior, evidence = case.measurement.posterior(case.prior)
    exact = MixtureDenoiser(case.prior, CosineNoising())
    learned = learn(case.prior, epochs).denoiser.double()
    ways: dict[str, Callable[[], Found]] = {
        "draws of the exact posterior": lambda: Found(posterior.distribution().sample((DRAWS,)), None, "all"),
        "rejection sampling": lambda: by_rejection(case, evidence),
        "particles, exact score": lambda: by_particles(exact, case, evidence, DRAWS // RUNS),
        "particles, learned score": lambda: by_particles(learned, case, evidence, DRAWS // RUNS),
        "no resampling, exact score": lambda: by_particles(exact, case, evidence, 1),
        "no resampling, learned score": lambda: by_particles(learned, case, evidence, 1),
        "guidance alone, exact score": lambda: by_guidance(exact, case),
        "guidance alone, learned score": lambda: by_guidance(learned, case),
    }
    reference, found = posterior.distribution().sample((DRAWS,)), {}
    for way, draw_by in ways.items():
        drawn = draw_by()
        accuracy = diagnostics.classifier_two_sample(drawn.draws.numpy(), reference.numpy()).accuracy
        found[way] = Found(drawn.draws, drawn.errors, drawn.size, accuracy)
        print(f"{name}, {way}: {accuracy:.3f}, evidence {error_of(found[way])}", flush=True)
    return found


def learn(prior: Mixture, epochs: int) -> Any:
    """A diffusion that was fitted to draws of the prior."""
    data = prior.distribution().sample((GIVEN,)).float()
    steps = epochs * math.ceil(GIVEN / BATCH_SIZE)
    program = DiffusionModel(event_shape=data.shape[1:], width=128, data_scale=prior.scale())
    decay = LearningRate(lambda each: torch.optim.lr_scheduler.CosineAnnealingLR(each, steps))
    ppl.fit(
        program,
        data,
        objective=obj.denoising(weight="snr"),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=lambda parameters: torch.optim.Adam(parameters, 2e-3, fused=True),
        callbacks=[decay, EMA(0.999)],
        progress=False,
    )
    return program


def by_particles(denoiser: Any, case: Case, evidence: float, particles: int) -> Found:
    """Runs side by side, each with particles of its own; with one particle nothing is corrected."""
    flow = ProbabilityFlow(denoiser, (case.prior.means.shape[1],)).double()
    matrix, scale = case.measurement.matrix, case.measurement.scale

    def model(y: Tensor) -> None:
        with pyro.plate("data", len(y)):
            x = pyro.sample("x", Diffusion(flow))
            pyro.sample("y", dist.Normal(x @ matrix.mT, scale).to_event(1), obs=y)

    y = case.measurement.y.expand(DRAWS // particles, -1)
    found = diffusion_posterior(model, y, particles=particles, steps=STEPS)
    least = f"{found.effective_size.amin(0).mean():.0f} of {particles}" if particles > 1 else "not known"
    errors = found.log_evidence - evidence if particles > 1 else None
    return Found(found.samples.flatten(0, 1), errors, least)


def by_guidance(denoiser: Any, case: Case) -> Found:
    """The gradient of the likelihood of the expected data in the score of the ancestral sampler, and nothing else."""
    guided = Guided(denoiser, case.measurement.log_likelihood, at="data")
    noise = torch.randn(DRAWS, case.prior.means.shape[1], dtype=torch.float64)
    with torch.no_grad():
        return Found(generate(guided, noise, "ancestral", STEPS), None, "not known")


def by_rejection(case: Case, evidence: float) -> Found:
    """Draws of the prior, kept as often as their likelihood is of its largest value."""
    likelihood, prior = case.measurement.log_likelihood, case.prior.distribution()
    largest = -len(case.measurement.y) * math.log(case.measurement.scale * math.sqrt(2 * math.pi))
    kept, tried, accepted = [], 0, 0
    while accepted < DRAWS and tried < MOST_TRIED:
        x = prior.sample((50_000,))
        kept.append(x[torch.rand(len(x)).log() < likelihood(x) - largest])
        tried, accepted = tried + len(x), accepted + len(kept[-1])
    error = math.log(accepted / tried) + largest - evidence
    return Found(torch.cat(kept)[:DRAWS], torch.tensor([error]), f"{accepted:,} of {tried:,}")


def error_of(found: Found) -> str:
    """The mean error of the log evidence with its standard error over runs."""
    if found.errors is None:
        return ""
    mean, count = signed(found.errors.mean().item()), len(found.errors)
    return mean if count == 1 else f"{mean} ± {found.errors.std().item() / count**0.5:.3f}"


def signed(value: float) -> str:
    """Three decimals, with a true minus sign."""
    return f"{value:.3f}".replace("-", "−")


def compared(found: Mapping[str, Found]) -> str:
    """A table with a row for each way."""
    head = "| | classifier's accuracy | error of log evidence (nats) | draws that count |\n"
    lines = [f"| {way} | {one.accuracy:.3f} | {error_of(one)} | {one.size} |" for way, one in found.items()]
    return head + "| --- | --- | --- | --- |\n" + "\n".join(lines)


def table_rows(found: Mapping[str, Mapping[str, Found]]) -> list[Row]:
    """What was asked of the particles."""
    rows = []
    for case, ways in found.items():
        for way in ("particles, exact score", "particles, learned score"):
            one = ways[way]
            rows.append(
                Row(
                    f"{case}: classifier's accuracy, {way}",
                    f"asked: below {LIMIT}",
                    f"{one.accuracy:.3f}",
                    one.accuracy < LIMIT,
                )
            )
    return rows


def draw(path: Path, case: Case, found: Mapping[str, Found]) -> None:
    """Prior, likelihood and posterior as densities, and the draws of five ways, with that of the posterior behind."""
    figure = Figure(figsize=(11, 5.8), layout="constrained")
    axes = figure.subplots(2, 4)
    half, count = 2.6, 200
    grid = torch.linspace(-half, half, count, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    posterior, _ = case.measurement.posterior(case.prior)
    densities = {
        "prior": case.prior.distribution().log_prob(points).exp(),
        "likelihood": case.measurement.log_likelihood(points).exp(),
        "posterior": posterior.distribution().log_prob(points).exp(),
    }
    for panel, (title, density) in zip(axes.flat, densities.items(), strict=False):
        panel.imshow(
            density.reshape(count, count).T.numpy(), extent=(-half, half, -half, half), origin="lower", cmap="Blues"
        )
        panel.set_title(title)
    shown = [way for way in found if way != "draws of the exact posterior" and "no resampling, learned" not in way]
    levels = densities["posterior"].max().item() * np.array([0.02, 0.2, 0.6])
    contours = [part.numpy() for part in (grid, grid, densities["posterior"].reshape(count, count).T)]
    for panel, way in zip(list(axes.flat)[3:], shown, strict=False):
        panel.contour(*contours, levels=levels, colors="#b9bec7")
        panel.scatter(*found[way].draws[:1500].T.numpy(), s=2, color="#1f5fa8", alpha=0.5, rasterized=True)
        panel.set_title(f"{way}\nC2ST {found[way].accuracy:.2f}", fontsize="medium")
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[], xlim=(-half, half), ylim=(-half, half), aspect="equal")
    figure.savefig(path, dpi=96)


def section(found: Mapping[str, Mapping[str, Found]], epochs: int, command: str, cost: str) -> str:
    """The section in Markdown."""
    tables = "\n\n".join(f"{case}:\n\n{compared(ways)}" for case, ways in found.items())
    return f"""
## Posteriors by a diffusion: a mixture and a measurement

Sohl-Dickstein and others (2015), *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, section 2.5; Wu and
others (2023), *Practical and Asymptotically Exact Conditional Sampling in Diffusion Models*. Neither has a number for
this; the truth is known.

```
{command}
```

{table(table_rows(found))}

{tables}

![Prior, likelihood, posterior, and draws by several ways](reproductions/diffusion_posterior.png)

- **Prior**: a mixture of normal distributions, five in the plane and ten of eight numbers. The measurement is linear,
  with normal noise; the exact posterior is a mixture too, and its draws are what the others are compared with.
- **Classifier's accuracy**: how often a network tells draws from draws of the exact posterior, held out of its
  training; 0.5 is chance. {DRAWS:,} draws of each.
- **Particles**: `inference.diffusion_posterior`, {RUNS} runs of {DRAWS // RUNS} particles and {STEPS} steps. The error
  of the log evidence is the mean over runs with its standard error, and has the error of a chain of so many steps in
  it; draws that count are the least effective size on the way, the mean over runs.
- **No resampling** is the same with one particle: the pull as wide as what is not known, and no weights. **Guidance
  alone** is `networks.Guided(at="data")` with the ancestral sampler of as many steps: the likelihood at the expected
  data as it stands.
- **Exact score**: the mixture's own denoiser, with the cosine noising. **Learned score**: `models.Diffusion` fitted to
  {GIVEN:,} draws of the prior in {epochs} passes; its errors are those of the prior that it has learned.
- **Rejection** needs the prior's draws and the likelihood's largest value; what it keeps is exact.
- **Cost**: {cost}, for all.
"""


if __name__ == "__main__":
    main()
