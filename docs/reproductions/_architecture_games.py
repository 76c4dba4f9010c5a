"""The two games of random architectures of digits: how they are played, and what their samples are like.

Convention of this module: images have 14x14 pixels between -1 and 1, shape (rows, 1, 14, 14); the games' work is equal
where their critics make equally many updates, whatever the generators do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _architectures import Generated, critic_of, drawn
from torch import Tensor, nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import NonFiniteError

BATCH_SIZE = 64
SCORED, SHOWN = 5000, 10
CLASSES, FEATURES = 10, 64


@dataclass(frozen=True)
class Way:
    """A game, and how it is played.

    Attributes:
        divergence: What the critic estimates.
        critic_steps: Its updates before each one of the generator.
        by: What normalizes the critic's hidden layers.
        rate: Of both players' Adam.
        betas: Of the same.
    """

    divergence: Any
    critic_steps: int
    by: str
    rate: float
    betas: tuple[float, float]

    def steps(self, epochs: int, rows: int) -> int:
        """Updates of the generator while the critic makes as many as there are batches in some passes over the data."""
        return critic_updates(epochs, rows) // self.critic_steps


WAYS = {
    "GAN": Way(obj.NonSaturating(), 1, "batch", 1e-3, (0.5, 0.999)),
    "WGAN-GP": Way(obj.Wasserstein(10.0), 3, "layer", 2e-3, (0.5, 0.9)),
}


def critic_updates(epochs: int, rows: int) -> int:
    """How many, in any game."""
    return epochs * (rows // BATCH_SIZE)


class Classifier(nn.Module):
    """Digits given images."""

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()]
        second = [nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(512, FEATURES), nn.ReLU())
        self.scores = nn.Linear(FEATURES, CLASSES)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Labels of some rows, observed or drawn."""
        with pyro.plate("data", len(x)):
            found: Tensor = pyro.sample("y", dist.Categorical(logits=self.scores(self.features(x))), obs=y)
            return found

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Of the digits, shape (rows, 10)."""
        scores: Tensor = self.scores(self.features(x))
        return scores.double().softmax(-1)

    def score(self, x: Tensor) -> float:
        """The inception score: the exponential of the information between an image and its label, from 1 to 10."""
        told = self.probabilities(x)
        information = torch.special.entr(told.mean(0)).sum() - torch.special.entr(told).sum(-1).mean()
        return float(information.exp())


@dataclass(frozen=True)
class Digits:
    """The images, and what judges others.

    Attributes:
        train: Images to train on, shape (rows, 1, 14, 14).
        test: Held-out images.
        classifier: What scores images.
        accuracy: The classifier's on held-out images.
    """

    train: Tensor
    test: Tensor
    classifier: Classifier
    accuracy: float

    @property
    def score(self) -> float:
        """The score of as many held-out images as are drawn."""
        return self.classifier.score(self.test[:SCORED])


@dataclass(frozen=True)
class Played:
    """What one game came to.

    Attributes:
        score: The inception score; 0 where numbers overflowed.
        frechet: The Fréchet distance of the classifier's features from those of held-out images; None likewise.
        seconds: Of a processor.
        images: Some samples in levels from 0 to 255.
    """

    score: float
    frechet: float | None
    seconds: float
    images: list[list[int]] = field(default_factory=list)


def play(number: int, way: Way, digits: Digits, epochs: int) -> Played:
    """One game, and what its samples are like."""
    began = time.process_time()
    torch.manual_seed(number)
    architecture = drawn(number)
    program, critic = Generated(architecture), critic_of(architecture, way.by)
    adam = partial(torch.optim.Adam, lr=way.rate, betas=way.betas, fused=True)
    game = obj.adversarial("x", critic, divergence=way.divergence, critic_steps=way.critic_steps, optimizer=adam)
    steps = way.steps(epochs, len(digits.train))
    settings: dict[str, Any] = {"steps": steps, "batch_size": BATCH_SIZE, "compile": "trace", "seed": number}
    try:
        ppl.fit(program, digits.train, objective=-game, optimizer=adam, progress=False, **settings)
    except NonFiniteError:
        return Played(0.0, None, time.process_time() - began)
    images, spent = program.images(SCORED, BATCH_SIZE), time.process_time() - began
    if not images.isfinite().all():  # by the last update, which nothing came after
        return Played(0.0, None, spent)
    frechet = diagnostics.frechet_distance(images, digits.test[:SCORED], features=digits.classifier.features)
    shown = ((images[:SHOWN] + 1) * 127.5).round().int().flatten(1).tolist()
    return Played(digits.classifier.score(images), frechet, spent, shown)
