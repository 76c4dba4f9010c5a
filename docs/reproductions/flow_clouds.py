"""Densities of four clouds in the plane by flows of several kinds, against the truth.

Coupling flows of Dinh, Sohl-Dickstein and Bengio (2017) and of Durkan and others (2019), Neural Spline Flows, section
5.1; continuous flows by flow matching, Lipman and others (2023), and by likelihood, Grathwohl and others (2019),
FFJORD, section 4.1.

    make reproduce NAME=flow-clouds
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _clouds import Cloud, clouds
from _page import Row, arguments, cost, picture_path, standard_error, table, write_section
from matplotlib import pyplot
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import Tensor, nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Flow
from ppl_genmodels.inference import LearningRate
from ppl_genmodels.models import ContinuousFlow, SplineFlow
from ppl_genmodels.transforms import ActNorm, Affine, Autoregressive, Coupling, InvertibleLinear, Permute, Spline

NAME = "flow-clouds"
BATCH_SIZE, TEST, GIVEN = 256, 10_000, 10_000
COMPONENTS, BANDWIDTHS = (8, 32, 128), (0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
NEAR = 0.1
"""Nats below the truth that count as having found the cloud."""


class Layers(nn.Module):
    """The density of pairs by given layers, the data made standard first."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList([*layers, ActNorm(2)])
        self.register_buffer("zeros", torch.zeros(2))

    def density(self) -> Flow:
        """The distribution of a point."""
        return Flow(dist.Normal(self.zeros, 1.0).to_event(1), self.transforms)

    def model(self, x: Tensor | None = None) -> None:
        """Points, in the plate of data."""
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", self.density(), obs=x)


def affine_couplings() -> Layers:
    """Six pairs of affine couplings with linear maps between."""
    pairs = [[Coupling(2, (64, 64), Affine(), swap=swap) for swap in (False, True)] for _ in range(6)]
    return Layers([each for pair in pairs for each in (*pair, InvertibleLinear(2))])


def spline_autoregressive() -> Layers:
    """Four autoregressive spline layers, the order turned round between."""
    layers = [Autoregressive(2, (64, 64), Spline(bins=16, bound=4.0)) for _ in range(4)]
    return Layers([each for layer in layers for each in (layer, Permute([1, 0]))])


@dataclass(frozen=True)
class Way:
    """A flow, how long it is fitted, and by what objective."""

    make: Callable[[], Any]
    steps: int
    learning_rate: float
    objective: obj.Objective = field(default_factory=obj.elbo)


WAYS: Mapping[str, Way] = {
    "affine couplings": Way(affine_couplings, 2000, 4e-3),
    "spline couplings": Way(lambda: SplineFlow(2, layers=3, hidden=(64, 64), bins=16), 3000, 4e-3),
    "spline autoregressive": Way(spline_autoregressive, 3000, 4e-3),
    "continuous, flow matching": Way(
        lambda: ContinuousFlow(2, hidden=(64, 64, 64), field="residual"), 6000, 2e-3, obj.flow_matching()
    ),
    "continuous, likelihood": Way(lambda: ContinuousFlow(2, hidden=(64, 64), solver="rk4", steps=8), 600, 1e-2),
}


@dataclass(frozen=True)
class Found:
    """The flows of one cloud, and for every way the log-densities of the test points."""

    flows: Mapping[str, Any]
    log_probs: Mapping[str, Tensor]


def main() -> None:
    """Fits every flow to every cloud, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=1, seeds=1)
    found = {name: of_cloud(name, cloud) for name, cloud in clouds().items()}
    draw(picture_path(options.page, "flow_clouds"), found)
    draw_paths(picture_path(options.page, "flow_clouds_paths"), found)
    text = section(found, f"make reproduce NAME={NAME}", cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def of_cloud(name: str, cloud: Cloud) -> Found:
    """All flows, and beside them a Gaussian mixture and a kernel."""
    test = cloud.sample(TEST, seed=2)
    log_probs = {"truth": cloud.log_prob(test)} | of_baselines(cloud.sample(GIVEN, seed=1), test)
    flows = {}
    for way, how in WAYS.items():
        began = time.monotonic()
        flows[way] = fitted(how, cloud).density()
        log_probs[way] = log_prob(flows[way], test)
        print(f"{name}, {way}: {log_probs[way].mean():.3f}, {time.monotonic() - began:.0f} s", flush=True)
    return Found(flows, log_probs)


def fitted(how: Way, cloud: Cloud) -> Any:
    """The program after one pass over points that are never seen twice."""
    torch.manual_seed(0)
    program = how.make()
    decay = LearningRate(lambda each: torch.optim.lr_scheduler.CosineAnnealingLR(each, how.steps))
    ppl.fit(
        program,
        cloud.sample(how.steps * BATCH_SIZE, seed=0),
        objective=how.objective,
        steps=how.steps,
        batch_size=BATCH_SIZE,
        optimizer=lambda parameters: torch.optim.Adam(parameters, how.learning_rate, fused=True),
        callbacks=[decay],
        progress=False,
    )
    return program


@torch.no_grad()
def log_prob(flow: Any, points: Tensor) -> Tensor:
    """Log-densities of points, some at a time."""
    return torch.cat([flow.log_prob(some) for some in points.split(2500)])


def of_baselines(given: Tensor, test: Tensor) -> dict[str, Tensor]:
    """A mixture and a kernel, their sizes chosen by a tenth of the given points."""
    kept, tried = given[: -GIVEN // 10].numpy(), given[-GIVEN // 10 :].numpy()
    mixtures = [GaussianMixture(each, random_state=0).fit(kept) for each in COMPONENTS]
    kernels = [KernelDensity(bandwidth=each, rtol=1e-4).fit(kept) for each in BANDWIDTHS]
    best = {"Gaussian mixture": mixtures, "kernel": kernels}
    chosen = {name: max(fits, key=lambda fit: fit.score(tried)) for name, fits in best.items()}
    return {name: torch.as_tensor(fit.score_samples(test.numpy())) for name, fit in chosen.items()}


def draw(path: Path, found: Mapping[str, Found]) -> None:
    """The true density of each cloud, and under it that of every flow."""
    rows = ["truth", *WAYS]
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(len(rows), len(found), figsize=(10, 14.5), layout="constrained")
        for column, (name, cloud) in zip(panels.T, clouds().items(), strict=True):
            points = cloud.sample(4000, seed=3)
            low, high = points.min(0).values - 0.3, points.max(0).values + 0.3
            sides = [torch.linspace(low[side], high[side], 140) for side in (0, 1)]
            grid = torch.cartesian_prod(*sides)
            values = [cloud.log_prob(grid), *(log_prob(found[name].flows[way], grid) for way in WAYS)]
            top = values[0].exp().max().item()
            for panel, each in zip(column, values, strict=True):
                panel.pcolormesh(*sides, each.exp().reshape(140, 140).T, cmap="viridis", vmin=0, vmax=top)
                panel.set(xticks=[], yticks=[], aspect="equal")
            column[0].set_title(name)
        for panel, label in zip(panels[:, 0], rows, strict=True):
            panel.set_ylabel(label)
        figure.savefig(path, dpi=70)
        pyplot.close(figure)


def draw_paths(path: Path, found: Mapping[str, Found]) -> None:
    """The path of points through the continuous flow of each cloud."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(len(found), 6, figsize=(11, 7.6), layout="constrained")
        for row, (name, each) in zip(panels, found.items(), strict=True):
            diagnostics.plot_layers(each.flows["continuous, flow matching"], row)
            row[0].set_ylabel(name)
            for panel in row:
                panel.set(xticks=[], yticks=[])
        figure.savefig(path, dpi=80)
        pyplot.close(figure)


def shown(values: Tensor) -> str:
    """Mean and standard error over test points."""
    return f"{values.mean():.3f} ± {standard_error(values):.3f}".replace("-", "−")


def means(found: Mapping[str, Found]) -> str:
    """Mean held-out log-densities less the true ones as a Markdown table; the truth's own in its first row."""
    lines = [f"| nats per point | {' | '.join(found)} |", f"| --- |{' --- |' * len(found)}"]
    for way in next(iter(found.values())).log_probs:
        cells = [shown(each.log_probs[way] - (way != "truth") * each.log_probs["truth"]) for each in found.values()]
        lines.append(f"| {way if way == 'truth' else f'{way} less the truth'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rows_of(found: Mapping[str, Found]) -> list[Row]:
    """What was asked: splines and continuous flows near the truth."""
    rows = []
    for name, each in found.items():
        for way in WAYS:
            lost = each.log_probs[way] - each.log_probs["truth"]
            reached = bool(lost.mean() > -NEAR)
            rows.append(Row(f"{name}: {way} less the truth", f"asked: above −{NEAR:g}", shown(lost), reached))
    return rows


def section(found: Mapping[str, Found], command: str, took: str) -> str:
    """The section of the page."""
    return f"""
## Densities of clouds in the plane

Two moons, rings, a checkerboard and eight Gaussians: such clouds are shown by Durkan and others (2019), Grathwohl and
others (2019) and many more as pictures, without numbers. Here the clouds' densities are known, and the mean log-density
of fresh points is held against the true one: the difference is minus the divergence of the flow from the truth.

```
{command}
```

{means(found)}

{table(rows_of(found))}

![The density of each cloud, the true one above those of the flows](reproductions/flow_clouds.png)

![Points on their way through the continuous flows](reproductions/flow_clouds_paths.png)

- **Clouds**: two moons and rings are mixtures of round Gaussians of width 0.08 and 0.06 that lie close
  together on half circles and circles, so that their density is exact too; the checkerboard is uniform
  on eight squares, the eight Gaussians have width 0.2 on a circle of radius 2.
- **Data**: every batch of {BATCH_SIZE} points is new to the flows; mixture and kernel have {GIVEN:,} points, of
  which a tenth choose the number of components ({", ".join(map(str, COMPONENTS))}) and the width. {TEST:,} points test.
- **Flows**: {"; ".join(f"{way} {how.steps:,} steps" for way, how in WAYS.items())}; by Adam,
  from {", ".join(f"{how.learning_rate:g}" for how in WAYS.values())} down to 0 as a cosine. Six pairs of affine
  couplings, three pairs of spline couplings (16 bins), four autoregressive spline layers, a velocity of
  three residual blocks of 64 units by flow matching, and a perceptron of two layers of 64 by
  likelihood, with 8 steps of a fourth-order solver. Fits are short: longer ones come nearer.
- **Densities of the continuous flow** that was fitted by flow matching are solved to a tolerance of 1e-5.
- **Cost**: {took}, for all fits and pictures.
"""


if __name__ == "__main__":
    main()
