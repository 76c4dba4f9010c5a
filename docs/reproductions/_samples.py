"""What is measured of samples of digits: by a classifier of digits, beside held-out digits, and beside the training's.

Convention of this module: images are grey levels between 0 and 1, shape (rows, 1, 28, 28). Those that are compared by
their pixels are rounded to 16 levels first, data and samples alike, so that no classifier tells them apart by
backgrounds that are nearly and not quite zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels.objectives import log_lik

LEVELS, CLASSES, FEATURES = 16, 10, 64
SURE = 0.9
"""The probability above which the classifier is sure of a digit."""
TOLD, NEAR = 5000, 1000
"""Samples that are compared with held-out images, and that have their neighbours looked for."""
AT_ONCE = 500


class Classifier(nn.Module):
    """Labels given images: two convolutions and two linear layers.

    Attributes:
        features: From images to 64 numbers.
        scores: From those to the labels' scores.
    """

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()]
        second = [nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(1568, FEATURES), nn.ReLU())
        self.scores = nn.Linear(FEATURES, CLASSES)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Labels of some rows, observed or drawn."""
        with pyro.plate("data", len(x)):
            found: Tensor = pyro.sample("y", dist.Categorical(logits=self.scores(self.features(x))), obs=y)
            return found

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Of the labels, shape (rows, 10)."""
        return torch.cat([self.scores(self.features(part)).softmax(-1) for part in rounded(x).split(AT_ONCE)])

    @torch.no_grad()
    def seen(self, x: Tensor) -> Tensor:
        """The features, shape (rows, 64)."""
        return torch.cat([self.features(part) for part in rounded(x).split(AT_ONCE)])


def rounded(x: Tensor) -> Tensor:
    """The nearest of 16 grey levels."""
    return (x.clamp(0, 1) * (LEVELS - 1)).round() / (LEVELS - 1)


def classifier_of(x: Tensor, y: Tensor, path: Path | None) -> Classifier:
    """The classifier, from a file or else fitted, and put there."""
    torch.manual_seed(0)
    program = Classifier()
    if path is not None and path.exists():
        program.load_state_dict(torch.load(path, weights_only=True))
        return program.eval()
    adam = partial(torch.optim.Adam, lr=2e-3, fused=True)
    ppl.fit(
        program,
        {"x": rounded(x), "y": y},
        objective=log_lik(),
        epochs=3,
        batch_size=128,
        optimizer=adam,
        progress=False,
    )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(program.state_dict(), path)
    return program.eval()


@dataclass(frozen=True)
class Measured:
    """What was measured of samples.

    Attributes:
        pixels: How well a perceptron tells them from held-out images by their pixels.
        features: The same by the features.
        frechet: The Fréchet distance of the features from those of the held-out images.
        support: Precision and recall on the features.
        density: Density and coverage on the features.
        shares: Of the digits, shape (10,).
        sure: The share of samples that the classifier is sure of.
        copies: The nearest training images, and whether samples lie nearer to them than held-out images do.
    """

    pixels: diagnostics.ClassifierTwoSample
    features: diagnostics.ClassifierTwoSample
    frechet: float
    support: diagnostics.PrecisionRecall
    density: diagnostics.DensityCoverage
    shares: Tensor
    sure: float
    copies: diagnostics.NearestNeighbours


def measured(samples: Tensor, test: Tensor, train: Tensor, classifier: Classifier) -> Measured:
    """Everything, of as many samples as there are held-out images."""
    some, held = rounded(samples[:TOLD]).flatten(1), rounded(test[:TOLD]).flatten(1)
    seen, expected = classifier.seen(samples), classifier.seen(test)
    probability, label = classifier.probabilities(samples).max(-1)
    return Measured(
        pixels=diagnostics.classifier_two_sample(some, held),
        features=diagnostics.classifier_two_sample(seen[:TOLD], expected[:TOLD]),
        frechet=diagnostics.frechet_distance(seen, expected),
        support=diagnostics.precision_recall(seen[:TOLD], expected[:TOLD]),
        density=diagnostics.density_coverage(seen[:TOLD], expected[:TOLD]),
        shares=torch.bincount(label, minlength=CLASSES) / len(label),
        sure=(probability > SURE).float().mean().item(),
        copies=diagnostics.nearest_neighbours(some[:NEAR], rounded(train).flatten(1), held[:NEAR]),
    )


@dataclass(frozen=True)
class Returned:
    """What comes back of held-out digits.

    Attributes:
        images: Reconstructions.
        kept: Whether each has the label that the classifier gives to its original, shape (rows,).
        error: The mean squared error of each one's pixels, shape (rows,).
        at_random: That of the reconstruction of another image.
    """

    images: Tensor
    kept: Tensor
    error: Tensor
    at_random: Tensor


def returned(fitted: ppl.Fitted, x: Tensor, given: Tensor, classifier: Classifier) -> Returned:
    """Reconstructions of images from one draw of each code, of what the program is given of them."""
    torch.manual_seed(0)
    images = torch.cat([fitted.reconstruct(part, 1)["x"] for part in given.split(AT_ONCE)]).clamp(0, 1)
    label, expected = (classifier.probabilities(each).argmax(-1) for each in (images, x))
    errors = [(each - x).square().flatten(1).mean(1) for each in (images, images.roll(1, 0))]
    return Returned(images, label == expected, *errors)
