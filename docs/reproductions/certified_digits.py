"""Certified balls of digits: how wide Lipschitz-margin training makes them, and no adversarial example inside any.

Tsuzuku, Sato and Sugiyama (2018), Lipschitz-Margin Training: Scalable Certification of Perturbation Invariance for Deep
Neural Networks, proposition 1 and algorithm 1.

    make reproduce NAME=certified-digits
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
from _page import Row, arguments, cost, picture_path, table, write_section
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import Tensor, nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels.diagnostics import adversarial_examples
from ppl_genmodels.networks import certified_radius, exact_norm, lipschitz_bound
from ppl_genmodels.objectives import lipschitz_margin, log_lik

NAME = "certified-digits"
SHAPE, CLASSES, TRAINING = (1, 8, 8), 10, 1000
FITS = {
    "log-likelihood": ("perceptron", 0.0),
    "margin for 0.1": ("perceptron", 0.1),
    "margin for 0.2": ("perceptron", 0.2),
    "margin for 0.4": ("perceptron", 0.4),
    "convolutions, log-likelihood": ("convolutions", 0.0),
    "convolutions, margin for 0.1": ("convolutions", 0.1),
}
"""The network of each fit, and the radius that its margin certifies, in units of the range of a pixel."""
BALL = 0.3
"""The radius at which fits are compared."""
EPOCHS, BATCH_SIZE, LEARNING_RATE = 60, 100, 2e-3
TRIES, STEPS = 10_000, 20
LARGER = 10.0
"""By which factor balls are larger where the attack is to succeed."""


def perceptron() -> nn.Sequential:
    """Two linear layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def convolutions() -> nn.Sequential:
    """Two convolutions with max pooling, and two linear layers."""
    first = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, CLASSES))


NETWORKS = {"perceptron": perceptron, "convolutions": convolutions}


class Classifier(nn.Module):
    """Labels given digits."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Labels of some rows, observed or drawn."""
        with pyro.plate("data", len(x)):
            found: Tensor = pyro.sample("y", dist.Categorical(logits=self.network(x)), obs=y)
            return found


@dataclass(frozen=True)
class Found:
    """What was measured of one classifier on test digits.

    Attributes:
        accuracy: The share of right decisions.
        bound: The Lipschitz bound of its logits.
        radius: Of each certified ball, shape (rows,).
        right: Whether each decision is right, shape (rows,).
        inside: Attacks within the certified balls that changed the decision.
        tries: Attacks within the certified balls.
        outside: The share of digits whose decision an attack changes in balls that are larger.
    """

    accuracy: float
    bound: float
    radius: Tensor
    right: Tensor
    inside: int
    tries: int
    outside: float

    def certified(self, radius: float) -> float:
        """The share of digits that are decided rightly in the whole ball of a radius."""
        return (self.right & (self.radius >= radius)).float().mean().item()


def main() -> None:
    """Fits every classifier, attacks it, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=EPOCHS, seeds=1)
    found = {name: measured(fitted(*of, options.epochs)) for name, of in FITS.items()}
    draw(picture_path(options.page, "certified_digits"), found)
    text = section(found, options.epochs, f"make reproduce NAME={NAME}", cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def digits(first: int, last: int | None) -> dict[str, Tensor]:
    """Some of scikit-learn's digits, in the order of a fixed permutation, pixels between 0 and 1."""
    data = load_digits()
    chosen = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))[first:last]
    x = torch.as_tensor(data.data / 16, dtype=torch.float32).reshape(-1, *SHAPE)
    return {"x": x[chosen], "y": torch.as_tensor(data.target)[chosen]}


def fitted(kind: str, radius: float, epochs: int) -> nn.Sequential:
    """The network of a classifier."""
    torch.manual_seed(0)
    program = Classifier(NETWORKS[kind]())
    objective = lipschitz_margin("y", program.network, SHAPE, radius) if radius else log_lik()
    adam = partial(torch.optim.Adam, lr=LEARNING_RATE)
    data = digits(0, TRAINING)
    ppl.fit(program, data, objective=objective, epochs=epochs, batch_size=BATCH_SIZE, optimizer=adam, progress=False)
    print(f"{kind} fitted with radius {radius:g}", flush=True)
    return program.network


def measured(network: nn.Sequential) -> Found:
    """Certified radii of the test digits, and attacks on them."""
    data = digits(TRAINING, None)
    with torch.no_grad():
        bound = lipschitz_bound(network.double(), SHAPE, exact_norm)
        scores = network(data["x"].double())
    radius = certified_radius(scores, bound)
    restarts = -(-TRIES // (len(radius) * len(FITS)))
    x = data["x"].double()
    inside = sum(
        int(adversarial_examples(network, x, radius, STEPS, seed=seed).found.sum()) for seed in range(restarts)
    )
    outside = adversarial_examples(network, x, LARGER * radius, STEPS).found.double().mean().item()
    right = scores.argmax(-1) == data["y"]
    return Found(right.double().mean().item(), bound.item(), radius, right, inside, restarts * len(radius), outside)


def draw(path: Path, found: Mapping[str, Found]) -> None:
    """The share of digits that are decided rightly in a whole ball, against its radius."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
        radii = torch.linspace(0, 1.0, 200).tolist()
        for (name, each), colour in zip(found.items(), diagnostics.style.PALETTE, strict=False):
            axes.plot(radii, [each.certified(radius) for radius in radii], color=colour, label=name)
        axes.set(xlabel="radius, in units of a pixel's range", ylabel="share certified and right", ylim=(0, 1))
        axes.legend(frameon=False)
        figure.savefig(path, dpi=96)
        pyplot.close(figure)


def rows_of(found: Mapping[str, Found]) -> list[Row]:
    """What was asked, and what is only told."""
    inside, tries = (sum(getattr(each, name) for each in found.values()) for name in ("inside", "tries"))
    plain, margin = found["log-likelihood"].certified(BALL), found["margin for 0.2"].certified(BALL)
    shown = [
        Row(
            f"{name}: accuracy; Lipschitz bound; median radius; share changed in {LARGER:g} times wider balls",
            "",
            f"{each.accuracy:.3f}; {each.bound:.1f}; {each.radius.median():.3f}; {each.outside:.3f}",
        )
        for name, each in found.items()
    ]
    return [
        Row(f"adversarial examples in certified balls, {tries:,} descents", "asked: 0", str(inside), inside == 0),
        Row(
            f"share right in the whole ball of radius {BALL:g}, by log-likelihood and by a margin for 0.2",
            "asked: more by the margin",
            f"{plain:.3f}, {margin:.3f}",
            margin > plain,
        ),
        *shown,
    ]


def section(found: Mapping[str, Found], epochs: int, command: str, took: str) -> str:
    """The section of the page."""
    return f"""
## Certified balls of digits

Tsuzuku, Sato and Sugiyama (2018), *Lipschitz-Margin Training*: a margin between the highest two logits, over the root
of two and the network's Lipschitz bound, is a distance within which the decision holds. Their data are larger; what was
asked here is that no attack breaks a certificate, and that training with the margin widens the balls.

```
{command}
```

{table(rows_of(found))}

![Share of digits that are decided rightly in a whole ball](reproductions/certified_digits.png)

- **Data**: {TRAINING:,} of scikit-learn's digits, 8x8 pixels between 0 and 1, train, the other {1797 - TRAINING} test.
- **Networks**: a perceptron with 128 hidden units; two convolutions with max pooling and two linear layers. {epochs}
  passes in batches of {BATCH_SIZE} by Adam at {LEARNING_RATE:g}; in the margin's term norms are those of ten power
  iterations. The more layers a network has the looser is its bound, and the smaller are its balls.
- **Bound**: the product of the layers' exact norms, by singular values in double precision. Distances are Euclidean
  over all 64 pixels.
- **Attack**: projected gradient descent on the margin, {STEPS} steps from random points of the sphere, of the decision
  for every test digit, right or wrong; every point on the way counts. That it finds examples in wider balls shows that
  it works; how wide they must be shows how loose the bound is.
- **Cost**: {took}.
"""


if __name__ == "__main__":
    main()
