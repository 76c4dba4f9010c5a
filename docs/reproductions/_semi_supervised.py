"""A semi-supervised VAE of images with a class and a style, and the images it is fitted to.

Convention of this module: a class is a one-hot vector; labelled images stand in a plate of their
own, and a batch of them counts as much as a batch of unlabelled ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _gumbel_cases import TRAINING, images
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from ppl_genmodels import data
from ppl_genmodels.networks import MLP

PIXELS, STYLE, HIDDEN = 784, 50, 500
LABELS = 100
"""Labelled images in all."""
ALPHA, SMALLEST_SCALE = 100.0, 1e-4


class SemiSupervised(nn.Module):
    """An image from its class and a style of 50 numbers; the class is known for some images.

    That the class of a labelled image is what the classifier says is one more
    observed site, of weight ``ALPHA``.

    Args:
        classes: How many.
    """

    prior_logits: Tensor
    origin: Tensor

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.classifier = convolutional(classes)
        self.of_image, self.of_class = nn.Linear(PIXELS, HIDDEN), nn.Linear(classes, HIDDEN, bias=False)
        self.style = nn.Linear(HIDDEN, 2 * STYLE)
        self.decoder = MLP(classes + STYLE, PIXELS, (HIDDEN,))
        self.register_buffer("prior_logits", torch.zeros(classes))
        self.register_buffer("origin", torch.zeros(STYLE))

    def model(self, x: Tensor | None = None, labelled: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Draws a class, a style and an image for each row, and a style for each labelled image."""
        rows = 1 if x is None else len(x)
        with pyro.plate("data", rows):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.prior_logits))
            self.image("", y, x)
        if labelled is not None and labels is not None:
            with pyro.plate("labelled", len(labelled)), poutine.scale(scale=rows / len(labelled)):
                self.image("_labelled", labels, labelled)
                with poutine.scale(scale=ALPHA):
                    pyro.sample("label", dist.OneHotCategorical(logits=self.classifier(labelled)), obs=labels)

    def guide(self, x: Tensor, labelled: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Draws the class from the classifier, and the style given image and class.

        Labelled images come first: what comes after ``y`` is drawn anew when ``y`` is summed out.
        """
        if labelled is not None and labels is not None:
            with pyro.plate("labelled", len(labelled)), poutine.scale(scale=len(x) / len(labelled)):
                pyro.sample("z_labelled", self.style_of(labelled, labels))
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            pyro.sample("z", self.style_of(x, y))

    def image(self, suffix: str, y: Tensor, x: Tensor | None) -> None:
        """Draws a style and then an image."""
        z = pyro.sample(f"z{suffix}", dist.Normal(self.origin, 1.0).to_event(1))
        y = y.expand(*torch.broadcast_shapes(y.shape[:-1], z.shape[:-1]), y.shape[-1])
        logits = self.decoder(torch.cat([y, z.expand(*y.shape[:-1], STYLE)], -1))
        pyro.sample(f"x{suffix}", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def style_of(self, x: Tensor, y: Tensor) -> Any:
        """The guide's distribution of the style."""
        loc, raw_scale = self.style((self.of_image(x) + self.of_class(y)).relu()).chunk(2, -1)
        return dist.Normal(loc, softplus(raw_scale) + SMALLEST_SCALE).to_event(1)


def convolutional(classes: int) -> nn.Module:
    """From images (..., 784) to the logits of their classes, by three layers."""
    layers = (nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU())
    return nn.Sequential(nn.Unflatten(-1, (1, 28, 28)), *layers, nn.Flatten(-3), nn.Linear(32 * 49, classes))


@dataclass(frozen=True)
class Images:
    """What is trained on and tested on: grey levels, drawn anew as bits for each batch, and test images in bits."""

    unlabelled: Tensor
    labelled: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor


def load(folder: Path, seed: int) -> Images:
    """The images; which are labelled is drawn by ``seed``, equally many of each class."""
    train = data.load(folder, "train")
    grey, labels = torch.from_numpy(train.data), torch.as_tensor(train.labels, dtype=torch.long)
    order = torch.randperm(min(TRAINING, len(grey)), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == k][: LABELS // 10] for k in range(10)])
    test_labels = torch.as_tensor(data.load(folder, "test").labels, dtype=torch.long)
    return Images(
        grey[:TRAINING], grey[chosen], one_hot(labels[chosen], 10).float(), images(folder, "test"), test_labels
    )
