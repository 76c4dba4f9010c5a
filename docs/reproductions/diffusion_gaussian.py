"""Gaussian data under a diffusion, whose density, evidence and paths are known: by the exact and by a learned score.

Song and others (2021), Score-Based Generative Modeling through Stochastic Differential Equations, section 4.3, for the
density; Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, section 2, for the bound; Song, Meng and
Ermon (2021), Denoising Diffusion Implicit Models, section 4.3, for the paths.

    make reproduce NAME=diffusion-gaussian
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from _gaussian import GaussianDenoiser, gaussian
from _page import Row, arguments, cost, picture_path, standard_error, table, write_section
from matplotlib import pyplot
from scipy.stats import norm
from torch import Tensor

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, inference
from ppl_genmodels.distributions import Flow
from ppl_genmodels.distributions.samplers import generate
from ppl_genmodels.models import Diffusion, DiffusionChain
from ppl_genmodels.networks import LinearNoising, VarianceExploding
from ppl_genmodels.objectives import denoising, elbo
from ppl_genmodels.transforms import ProbabilityFlow

NAME = "diffusion-gaussian"
DIMS = (2, 4, 8, 16)
CHAINS = (10, 30, 100, 300, 1000)
PATHS = (10, 30, 100, 300, 1000)
SAMPLERS = {"ancestral": 1000, "ddim": 1000, "heun": 100, "dpm_solver": 200}
"""Steps that leave less than a standard error."""
PRICED, WALKED, DRAWN = 200, 500, 4000
"""Rows of densities, of chains and of samplers."""
TRAINING_STEPS, BATCH_SIZE, LEARNING_RATE, WIDTH = 4000, 256, 2e-3, 128
BOUNDS = 200
"""Draws of the bound of each row by the learned score."""
ASKED = 1e-3
"""Nats by which a density may be wrong."""


@dataclass(frozen=True)
class Found:
    """What was measured in one dimension.

    Attributes:
        error: The largest error of a log-density, in nats, with the exact score.
        moments: By sampler the largest deviation of a mean or a covariance, in standard errors.
        limit: What the largest of so many deviations exceeds once in a hundred times.
        gaps: By the number of steps what the chain's bound lacks of the evidence, shape (rows,), and in expectation.
        linear: The last of these expectations for linear rates.
        paths: By sampler and number of steps the root mean squared distance from the exact paths.
        exact, learned: Log-densities of test data, the second by the learned score.
        bound: Of the learned score in continuous time, for the same data.
        learned_moments: As ``moments``, with the learned score.
    """

    error: float
    moments: Mapping[str, float]
    limit: float
    gaps: Mapping[int, tuple[Tensor, float]]
    linear: float
    paths: Mapping[str, Mapping[int, float]]
    exact: Tensor
    learned: Tensor
    bound: Tensor
    learned_moments: Mapping[str, float]


def main() -> None:
    """Measures every dimension, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=1, seeds=1)
    found = {dim: of_dimension(dim) for dim in DIMS}
    draw(picture_path(options.page, "diffusion_gaussian"), found)
    text = section(found, f"make reproduce NAME={NAME}", cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def of_dimension(dim: int) -> Found:
    """All of it, with the exact score first."""
    torch.manual_seed(0)
    began = time.monotonic()
    denoiser = GaussianDenoiser(gaussian(dim), LinearNoising().double())
    test = denoiser.target.sample((PRICED,))
    count = dim + dim * (dim + 1) // 2
    with torch.no_grad():
        error = density_error(denoiser, test)
        moments = {name: deviation(denoiser, denoiser, name, steps) for name, steps in SAMPLERS.items()}
        even = GaussianDenoiser(denoiser.target, VarianceExploding(0.01, 50.0).double())
        gaps = {steps: (chain_gap(even, steps), even.gap(steps)) for steps in CHAINS}
        paths = {name: {steps: path_error(denoiser, name, steps) for steps in PATHS} for name in ("ddim", "dpm_solver")}
    print(f"{dim}-D, exact score: {time.monotonic() - began:.0f} s", flush=True)
    program = fitted(denoiser)
    with torch.no_grad():
        learned = program.density().log_prob(test.float())
        bounds = [denoising(times="log_snr").evaluate(program, test.float())["denoising"] for _ in range(BOUNDS)]
        learned_moments = {name: deviation(denoiser, program.denoiser, name, steps) for name, steps in SAMPLERS.items()}
    print(f"{dim}-D, learned score: {time.monotonic() - began:.0f} s", flush=True)
    exact, bound = denoiser.target.log_prob(test), torch.stack([each.flatten() for each in bounds]).mean(0)
    limit = float(norm.ppf(1 - 0.01 / (2 * count)))
    return Found(
        error, moments, limit, gaps, denoiser.gap(CHAINS[-1]), paths, exact, learned.double(), bound, learned_moments
    )


def density_error(denoiser: GaussianDenoiser, test: Tensor) -> float:
    """Of the probability flow from the exact noisiest marginal, against the exact least noisy one."""
    noisiest, least = (denoiser.marginal(torch.tensor(at, dtype=torch.float64)) for at in (1.0, 0.0))
    flow = ProbabilityFlow(denoiser, test.shape[1:], rtol=1e-7, atol=1e-7)
    found = Flow(noisiest, [flow]).log_prob(test)
    return float((found - least.log_prob(test)).abs().max())


def deviation(truth: GaussianDenoiser, denoiser: Any, sampler: Any, steps: int) -> float:
    """The largest deviation of a mean or a covariance of draws, in standard errors."""
    dtype = next((each.dtype for each in denoiser.parameters()), torch.float64)
    drawn = generate(denoiser, torch.randn(DRAWN, len(truth.values), dtype=dtype), sampler, steps).double()
    covariance, variance = truth.target.covariance_matrix, truth.target.variance
    of_mean = (drawn.mean(0) - truth.target.mean) / (variance / DRAWN).sqrt()
    spread = ((covariance**2 + variance.outer(variance)) / DRAWN).sqrt()
    of_covariance = (drawn.mT.cov() - covariance) / spread
    return float(torch.cat([of_mean.abs(), of_covariance.abs().flatten()]).max())


def chain_gap(denoiser: GaussianDenoiser, steps: int) -> Tensor:
    """Evidence less the chain's bound, by one walk for each row."""
    x = denoiser.target.sample((WALKED,))
    chain = DiffusionChain(ProbabilityFlow(denoiser, x.shape[1:]).double(), steps)
    terms = elbo().evaluate(chain, x)
    return denoiser.target.log_prob(x) - (terms["log_lik"] - terms["kl"]).flatten()


def path_error(denoiser: GaussianDenoiser, sampler: Any, steps: int) -> float:
    """The root mean squared distance of draws from where the exact flow carries their noise."""
    noise = torch.randn(WALKED, len(denoiser.values), dtype=torch.float64)
    apart = generate(denoiser, noise, sampler, steps) - denoiser.carried(noise)
    return float(apart.square().mean().sqrt())


def fitted(denoiser: GaussianDenoiser) -> Diffusion:
    """The catalogue's program after one pass over data that are never seen twice, its weights averaged."""
    torch.manual_seed(1)
    program = Diffusion((len(denoiser.values),), width=WIDTH, noising="linear")
    decay = inference.LearningRate(lambda each: torch.optim.lr_scheduler.CosineAnnealingLR(each, TRAINING_STEPS))
    ppl.fit(
        program,
        denoiser.target.sample((TRAINING_STEPS * BATCH_SIZE,)).float(),
        objective=denoising(weight="simple"),
        steps=TRAINING_STEPS,
        batch_size=BATCH_SIZE,
        optimizer=lambda parameters: torch.optim.Adam(parameters, LEARNING_RATE, fused=True),
        callbacks=[decay, inference.EMA(0.999)],
        progress=False,
    )
    return program


def rows_of(found: Mapping[int, Found]) -> list[Row]:
    """What was asked of the exact score, over all dimensions."""
    rows = []
    worst = max(each.error for each in found.values())
    rows.append(
        Row("log-density, largest error in any dimension", f"asked: {ASKED:g} nats", f"{worst:.1e}", worst < ASKED)
    )
    for sampler, steps in SAMPLERS.items():
        shown = ", ".join(f"{each.moments[sampler]:.1f}" for each in found.values())
        reached = all(each.moments[sampler] < each.limit for each in found.values())
        limits = ", ".join(f"{each.limit:.1f}" for each in found.values())
        quantity = f"moments of {sampler}, {steps} steps: largest deviation in standard errors"
        rows.append(Row(quantity, f"asked: below {limits}, which one in a hundred exceeds", shown, reached))
    last = {dim: each.gaps[CHAINS[-1]] for dim, each in found.items()}
    falls = all(one.gaps[a][1] > 2 * one.gaps[b][1] for one in found.values() for a, b in pairwise(CHAINS))
    agree = all(
        abs(gap.mean().item() - wanted) < 3.5 * standard_error(gap)
        for each in found.values()
        for gap, wanted in each.gaps.values()
    )
    shown = ", ".join(f"{gap.mean().item():.3f} ± {standard_error(gap):.3f}" for gap, _ in last.values())
    rows.append(Row(f"gap of the bound of {CHAINS[-1]} steps", "asked: tends to 0 with more steps", shown, falls))
    rows.append(
        Row(
            "gaps of all chains against their exact expectation",
            "asked: within 3.5 standard errors",
            "all" if agree else "not all",
            agree,
        )
    )
    ratios = [each.paths["ddim"][100] / each.paths["ddim"][1000] for each in found.values()]
    shown = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    rows.append(
        Row(
            "DDIM: distance from the exact paths at 100 steps over that at 1000",
            "asked: 10 for the first order",
            shown,
            min(ratios) > 8,
        )
    )
    return rows


def matrix(head: str, dims: Sequence[int], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table with a column for each dimension."""
    lines = [f"| {head} | {' | '.join(f'{dim}-D' for dim in dims)} |", f"| --- |{' ---: |' * len(dims)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def of_exact(found: Mapping[int, Found]) -> str:
    """Gaps and paths by the number of steps."""
    gaps = [
        (
            f"gap of the bound, {steps} steps (expected)",
            [
                f"{gap.mean():.3f} ± {standard_error(gap):.3f} ({wanted:.3f})"
                for gap, wanted in (each.gaps[steps] for each in found.values())
            ],
        )
        for steps in CHAINS
    ]
    paths = [
        (
            f"distance from the exact paths, {sampler}, {steps} steps",
            [f"{each.paths[sampler][steps]:.1e}" for each in found.values()],
        )
        for sampler in ("ddim", "dpm_solver")
        for steps in PATHS
    ]
    return matrix("exact score", list(found), [*gaps, *paths])


def of_learned(found: Mapping[int, Found]) -> str:
    """Errors of the learned score."""
    lost = [each.learned - each.exact for each in found.values()]
    rows = [
        ("log-density less the exact one, mean", [f"{each.mean():.3f} ± {standard_error(each):.3f}" for each in lost]),
        ("its root mean square", [f"{each.square().mean().sqrt():.3f}" for each in lost]),
        (
            "bound in continuous time less the evidence, mean",
            [f"{(each.bound - each.exact).mean():.3f}" for each in found.values()],
        ),
    ]
    moments = [
        (
            f"moments of {sampler}, {steps} steps, in standard errors",
            [f"{each.learned_moments[sampler]:.1f}" for each in found.values()],
        )
        for sampler, steps in SAMPLERS.items()
    ]
    return matrix("learned score", list(found), [*rows, *moments])


def draw(path: Path, found: Mapping[int, Found]) -> None:
    """Gaps against steps, distances from the paths against steps, and learned against exact log-densities."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
        colours = pyplot.get_cmap("viridis")(torch.linspace(0, 0.85, len(found)).numpy())
        for (dim, each), colour in zip(found.items(), colours, strict=True):
            means, errors = zip(
                *((gap.mean().item(), standard_error(gap)) for gap, _ in each.gaps.values()), strict=True
            )
            left.plot(CHAINS, [wanted for _, wanted in each.gaps.values()], color=colour, lw=1)
            left.errorbar(CHAINS, means, errors, color=colour, fmt="o", ms=4, label=f"{dim}-D")
            for sampler, line in (("ddim", "-"), ("dpm_solver", "--")):
                middle.plot(PATHS, [*each.paths[sampler].values()], line, color=colour, marker="o", ms=3)
            right.scatter(each.exact, each.learned, color=colour, s=5)
        left.set(xscale="log", yscale="log", xlabel="steps of the chain", ylabel="evidence less bound, nats")
        left.legend(frameon=False)
        middle.set(xscale="log", yscale="log", xlabel="steps", ylabel="distance from the exact paths")
        middle.set_title("DDIM (lines) and DPM-Solver++ (dashes)", fontsize=9)
        left.set_title("exact expectation (lines) and walks (dots)", fontsize=9)
        right.set_title("learned score", fontsize=9)
        low, high = (
            getattr(torch.cat([each.exact for each in found.values()]), name)().item() for name in ("min", "max")
        )
        right.plot([low, high], [low, high], color="0.6", lw=1, zorder=0)
        right.set(xlabel="exact log-density, nats", ylabel="by the probability flow, nats")
        figure.savefig(path, dpi=96)
        pyplot.close(figure)


def section(found: Mapping[int, Found], command: str, took: str) -> str:
    """The section of the page."""
    return f"""
## Gaussian data under a diffusion

Normal data of 2 to 16 dimensions with a full covariance. Their noisy values are normal at every time, so that the best
denoiser, the density, the evidence, the gap of a chain of any length and the paths of the probability flow are known.
First the exact score is plugged in, then one is learned. Nothing is published; what was asked is beside what was found,
in the order of the dimensions where a row has several numbers.

```
{command}
```

{table(rows_of(found))}

{of_exact(found)}

{of_learned(found)}

![Gaps of the bound, distances from the exact paths, and learned log-densities](reproductions/diffusion_gaussian.png)

- **Noise**: rates that rise linearly from 0.1 to 20 in continuous time; in double precision for the exact score.
- **Log-density** with the exact score: {PRICED} rows, solved to a tolerance of 1e-7 between the exact marginals at both
  ends, as the least noise, of variance 1e-4, belongs to the diffusion.
- **Moments**: means and covariances of {DRAWN:,} draws. The limit takes into account how many of them there are.
- **Gap**: evidence less the bound of the chain, by one walk for each of {WALKED} rows, beside its exact expectation,
  with noise that grows by equal factors from 0.01 to 50. It falls as one over the steps; chains of the linear rates,
  whose first steps are long, lack {", ".join(f"{each.linear:.2f}" for each in found.values())} at {CHAINS[-1]} steps.
- **Paths**: root mean squared distance of a coordinate from where the exact probability flow carries the same noise.
- **Learned score**: the catalogue's `diffusion` with {WIDTH} hidden units, the mean squared error of the noise,
  {TRAINING_STEPS:,} steps of {BATCH_SIZE} new rows by Adam, {LEARNING_RATE:g} falling as a cosine; averaged weights.
  Its log-density is that of the probability flow from the standard normal base, against that of the data themselves.
- **Cost**: {took}.
"""


if __name__ == "__main__":
    main()
