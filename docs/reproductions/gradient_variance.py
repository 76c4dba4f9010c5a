"""The variance of gradient estimators on a sigmoid belief network on MNIST, while it is trained.

Tokui and Sato (2017), Evaluating the Variance of Likelihood-Ratio Gradient Estimators, section 7: the
estimators are compared on the same parameters, at several times of one training.

    make reproduce NAME=gradient-variance DATA_DIR=folder-that-holds-mnist
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from _page import Row, arguments, cost, picture_path, table, write_section
from matplotlib import pyplot
from torch import Tensor, nn

import ppl_genmodels as ppl
from ppl_genmodels import data, diagnostics, handlers, inference
from ppl_genmodels import objectives as obj
from ppl_genmodels.networks import MLP

NAME = "gradient-variance"
PIXELS, UNITS = 784, 200
BATCH_SIZE, LEARNING_RATE = 100, 1e-3
MEASURED_AT = (0, 0.01, 0.05, 0.2, 1.0)
"""Shares of the training after which the variances are measured."""
IMAGES, CALLS, PREPARING, PARTS = 10, 400, 300, 20
LEARNED_RATE = 3e-3

ESTIMATORS: Mapping[str, Callable[[], handlers.Estimator]] = {
    "score function, no baseline": lambda: handlers.ScoreFunction(baseline="none"),
    "score function, running mean": lambda: handlers.ScoreFunction(baseline="running_mean"),
    "score function, learned baseline (NVIL)": lambda: handlers.ScoreFunction(baseline=MLP(PIXELS, 1, (100,))),
    "score function, mean of the other images": handlers.ScoreFunction,
    "score function, leave one out of 10 draws": handlers.ScoreFunction,
    "MuProp": handlers.MuProp,
    "DisARM": handlers.DisARM,
    "REBAR": handlers.Rebar,
    "local expectation": handlers.LocalExpectation,
    "reparameterize and marginalize": handlers.ReparameterizeAndMarginalize,
}
DRAWS = {"score function, leave one out of 10 draws": 10}
"""Draws for each image where there are more than one; variances are multiplied by their number."""
BEST = "reparameterize and marginalize"
PUBLISHED = (
    ("score function, no baseline", "score function, running mean"),
    ("score function, running mean", "score function, leave one out of 10 draws"),
    ("score function, running mean", "MuProp"),
    ("score function, leave one out of 10 draws", "local expectation"),
    ("MuProp", "local expectation"),
    ("local expectation", BEST),
)
"""Pairs whose order was published, the larger variance first."""


class BeliefNetwork(nn.Module):
    """Two layers of bits above binary pixels, and a guide that mirrors them; affine maps between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = nn.Parameter(torch.zeros(UNITS))
        self.down, self.pixels = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, PIXELS)
        self.up, self.top = nn.Linear(PIXELS, UNITS), nn.Linear(UNITS, UNITS)

    def model(self, x: Tensor | None = None) -> None:
        """From the top layer to the pixels."""
        with pyro.plate("data", 1 if x is None else len(x)):
            top = pyro.sample("top", dist.Bernoulli(logits=self.prior).to_event(1))
            first = pyro.sample("first", dist.Bernoulli(logits=self.down(top)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.pixels(first)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """From the pixels to the top layer."""
        with pyro.plate("data", len(x)):
            first = pyro.sample("first", dist.Bernoulli(logits=self.up(x)).to_event(1))
            pyro.sample("top", dist.Bernoulli(logits=self.top(first)).to_event(1))

    def of_layers(self) -> dict[str, list[nn.Parameter]]:
        """The guide's parameters."""
        return {"first": list(self.up.parameters()), "top": list(self.top.parameters())}


@dataclass(frozen=True)
class Measured:
    """The variances at one time of the training.

    Attributes:
        step: The training step.
        bound: The objective of these parameters, in nats per datum.
        variances: For each estimator and layer the variance of the gradient, summed over the layer's parameters, of
            each of :data:`PARTS` parts of the calls.
    """

    step: int
    bound: float
    variances: dict[str, dict[str, Tensor]]


def main() -> None:
    """Trains, measures, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=10, seeds=1)
    train, test = (binary_images(options.data_dir / "mnist", split) for split in ("train", "test"))
    torch.manual_seed(0)
    network = BeliefNetwork()
    found = []
    for step in training(network, train, options.epochs):
        found.append(measured(network, step, test))
        print(f"step {step}: {found[-1].bound:.1f} nats", flush=True)
    draw(picture_path(options.page, "gradient_variance"), found)
    command = f"make reproduce NAME={NAME} ARGS='--epochs {options.epochs}'"
    text = section(found, command, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def binary_images(folder: Path, split: str) -> Tensor:
    """Images (rows, 784), each pixel drawn once from its grey level."""
    seed = {"train": 0, "test": 1}[split]
    return torch.from_numpy(data.load(folder, split, binarize="sample", seed=seed).data)


def training(network: BeliefNetwork, train: Tensor, epochs: int) -> Iterator[int]:
    """Trains by DisARM, and stops at each step where the variances are measured."""
    program = handlers.disarm(network)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)
    step = inference.compile_step(obj.elbo(), program, optimizer, "trace")
    steps = epochs * (len(train) // BATCH_SIZE)
    stops = {round(share * steps) for share in MEASURED_AT}
    rows = torch.randperm(len(train))
    for number in range(steps + 1):
        if number in stops:
            yield number
        first = number * BATCH_SIZE % (len(train) - BATCH_SIZE + 1)
        step(train[rows[first : first + BATCH_SIZE]])


def measured(network: BeliefNetwork, step: int, test: Tensor) -> Measured:
    """The variances of all estimators on the first test images, one draw each."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        bound = sum(sign * each.mean().item() for sign, each in bounds(network, test[:1000]))
        variances = {name: of_estimator(network, make(), test, DRAWS.get(name, 1)) for name, make in ESTIMATORS.items()}
    return Measured(step, bound, variances)


def bounds(network: BeliefNetwork, x: Tensor) -> Iterator[tuple[float, Tensor]]:
    """The terms of the objective with their signs."""
    values = obj.elbo().evaluate(network, x)
    yield 1.0, values["log_lik"]
    yield -1.0, values["kl"]


def of_estimator(
    network: BeliefNetwork, estimator: handlers.Estimator, test: Tensor, draws: int = 1
) -> dict[str, Tensor]:
    """For each layer the variance of the gradient for the measured images, in each part of the calls."""
    program = ppl.as_program(network).wrap(estimator)
    images = test[:IMAGES]
    prepare(program, estimator, test)
    layers = network.of_layers()
    flat = [parameter for parameters in layers.values() for parameter in parameters]
    gradients = []
    for _ in range(CALLS):
        found = torch.autograd.grad(obj.elbo().loss(program, images, num_particles=draws), flat)
        gradients.append(torch.cat([each.reshape(-1) for each in found]))
    parts = torch.stack(gradients).unflatten(0, (PARTS, -1)).var(1)
    sizes = [sum(parameter.numel() for parameter in parameters) for parameters in layers.values()]
    return {layer: draws * part.sum(-1) for layer, part in zip(layers, parts.split(sizes, -1), strict=True)}


def prepare(program: ppl.Program, estimator: handlers.Estimator, test: Tensor) -> None:
    """Lets an estimator learn what it remembers, the network held, on images that are not measured."""
    state = getattr(estimator, "state", None)
    if state is None:
        return
    others = test[IMAGES:]
    obj.elbo().loss(program, others[:BATCH_SIZE])
    learned = list(state.parameters())
    optimizer = torch.optim.Adam(learned, LEARNED_RATE) if learned else None
    for number in range(PREPARING):
        first = number * BATCH_SIZE % (len(others) - BATCH_SIZE + 1)
        loss = obj.elbo().loss(program, others[first : first + BATCH_SIZE])
        if optimizer is not None:
            for parameter, slope in zip(learned, torch.autograd.grad(loss, learned), strict=True):
                parameter.grad = slope
            optimizer.step()


def total(variances: Mapping[str, Tensor]) -> Tensor:
    """Of both layers, for each part of the calls."""
    return torch.stack(list(variances.values())).sum(0)


def draw(path: Path, found: Sequence[Measured]) -> None:
    """The variance of each layer's gradient over the training, one line for each estimator."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
        for panel, layer in zip(panels, ("first", "top"), strict=True):
            for name in ESTIMATORS:
                values = [one.variances[name][layer].mean() for one in found]
                panel.plot([one.step for one in found], values, marker="o", markersize=4, label=name)
            panel.set(title=f"guide of the {layer} layer", xlabel="training step", yscale="log")
            panel.set_xscale("symlog", linthresh=max(found[1].step, 1))
            panel.set_xlim(left=-0.1 * found[1].step, right=1.3 * found[-1].step)
        panels[0].set_ylabel("variance of the gradient")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
        figure.savefig(path, dpi=90)
        pyplot.close(figure)


def larger(one: Measured, first: str, second: str) -> bool:
    """Whether one variance is larger than another, by more than 4 standard errors of the difference."""
    difference = total(one.variances[first]) - total(one.variances[second])
    return bool(difference.mean() > 4 * difference.std() / PARTS**0.5)


def least(one: Measured, name: str) -> bool:
    """Whether one has the least variance of all."""
    return all(larger(one, other, name) for other in ESTIMATORS if other != name)


def answers(found: Sequence[bool]) -> tuple[str, bool]:
    """In words, and whether all are so."""
    return ", ".join("yes" if each else "no" for each in found), all(found)


def table_rows(found: Sequence[Measured]) -> list[Row]:
    """One row for each order that was published, then each estimator's variance."""
    steps = ", ".join(str(one.step) for one in found)
    lowest = [least(one, BEST) for one in found]
    rows = [Row(f"{BEST} has the least variance of all (at steps {steps})", "yes", *answers(lowest))]
    for first, second in PUBLISHED:
        orders = [larger(one, first, second) for one in found]
        rows.append(Row(f"variance of {first} above that of {second}", "yes", *answers(orders)))
    for name in ESTIMATORS:
        ratios = [(total(one.variances[name]).mean() / total(one.variances[BEST]).mean()).item() for one in found]
        quantity = f"variance of {name} to that of {BEST}"
        rows.append(Row(quantity, "a curve, no number", ", ".join(f"{ratio:.3g}" for ratio in ratios)))
    return rows


def section(found: Sequence[Measured], command: str, cost: str) -> str:
    """The section in Markdown."""
    reached = ", ".join(f"{one.bound:.1f}".replace("-", "−") for one in found)
    return f"""
## Variance of gradient estimators

Tokui and Sato (2017), *Evaluating the Variance of Likelihood-Ratio Gradient Estimators*, section 7.

```
{command}
```

{table(table_rows(found))}

![Variance of each estimator's gradient over the training, for each layer](reproductions/gradient_variance.png)

- **Program**: a sigmoid belief network of two layers of {UNITS} bits above the pixels of MNIST, drawn once
  from their grey levels, and a guide of two layers that mirrors it.
- **Training**: by DisARM, Adam at {LEARNING_RATE:g}, batches of {BATCH_SIZE}. The bound on 1000 test images at the
  measured steps: {reached} nats.
- **Variance**: of the gradient of the evidence lower bound of the first {IMAGES} test images in the guide's parameters,
  summed over them, one draw for each image, {CALLS} calls. "Above" means by more than 4 standard errors, taken over
  {PARTS} parts of the calls. All estimators see the same parameters.
- **What learns**: baselines and control variates first see {PREPARING} batches of other test images, the network held.
- **Here and there**: "mean of the other images" is the library's default baseline with one draw; leave-one-out proper
  needs several draws of an image, and its variance is multiplied by their number. DisARM and REBAR are later than the
  paper; REBAR and MuProp use derivatives of the cost, which likelihood-ratio estimators do not.
- **Cost**: {cost}.
"""


if __name__ == "__main__":
    main()
