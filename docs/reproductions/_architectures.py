"""Random pairs of a generator and a critic of small images.

Convention of this module: images have 14x14 pixels between -1 and 1, shape (rows, 1, 14, 14); a depth counts the hidden
layers, each with its normalization and activation; an architecture is told by its number, from which it is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

SIDE = 14


class ShiftedSoftplus(nn.Module):
    """A smooth activation, scaled and shifted as in the paper."""

    def forward(self, x: Tensor) -> Tensor:
        """Entry by entry."""
        return softplus(2 * x + 2) / 2 - 1


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "leaky ReLU": partial(nn.LeakyReLU, 0.2),
    "softplus": ShiftedSoftplus,
    "tanh": nn.Tanh,
}
DEPTHS = (1, 2, 4, 6)
WIDTHS = (32, 64, 128)
LATENTS = (8, 32, 128)


@dataclass(frozen=True)
class Network:
    """A generator or a critic.

    Attributes:
        activation: A name of :data:`ACTIVATIONS`.
        depth: How many hidden layers.
        width: Units of each.
        normalized: Whether each hidden layer is normalized.
    """

    activation: str
    depth: int
    width: int
    normalized: bool


@dataclass(frozen=True)
class Architecture:
    """Both players.

    Attributes:
        latent: Length of the latent vector.
        generator: The one.
        critic: The other.
    """

    latent: int
    generator: Network
    critic: Network


def drawn(number: int) -> Architecture:
    """The architecture of a number: every choice evenly and independently."""
    source = random.Random(number)

    def network() -> Network:
        activation = source.choice(tuple(ACTIVATIONS))
        return Network(activation, source.choice(DEPTHS), source.choice(WIDTHS), source.random() < 0.5)

    return Architecture(source.choice(LATENTS), network(), network())


def generator_of(architecture: Architecture) -> nn.Sequential:
    """From latent vectors to images; batches are normalized by their own moments, whenever it is called."""
    network = architecture.generator
    normalize = partial(nn.BatchNorm1d, network.width, track_running_stats=False)
    image = (nn.Linear(network.width, SIDE**2), nn.Unflatten(-1, (1, SIDE, SIDE)), nn.Tanh())
    return initialized(nn.Sequential(*_hidden(network, architecture.latent, normalize), *image))


def critic_of(architecture: Architecture, by: str) -> nn.Sequential:
    """From images to scores, shape (rows, 1).

    Args:
        architecture: Whose critic.
        by: How hidden layers are normalized where they are: ``"batch"``, or ``"layer"`` for each image by itself, as a
            penalty of each image's slope needs it.
    """
    network = architecture.critic
    normalize: dict[str, Callable[[], nn.Module]] = {
        "batch": partial(nn.BatchNorm1d, network.width, track_running_stats=False),
        "layer": partial(nn.LayerNorm, network.width),
    }
    hidden = _hidden(network, SIDE**2, normalize[by])
    return initialized(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(network.width, 1)))


def _hidden(network: Network, inputs: int, normalize: Callable[[], nn.Module]) -> Iterator[nn.Module]:
    for layer in range(network.depth):
        yield nn.Linear(network.width if layer else inputs, network.width)
        if network.normalized:
            yield normalize()
        yield ACTIVATIONS[network.activation]()


def initialized(network: nn.Sequential) -> nn.Sequential:
    """Weights of a variance of 2 over the inputs (He, Zhang, Ren and Sun, 2015), and no shifts."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


class Generated(nn.Module):
    """Images that a generator makes of standard normal noise."""

    prior_loc: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.generator = generator_of(architecture)
        self.register_buffer("prior_loc", torch.zeros(architecture.latent))

    def model(self, x: Tensor | None = None) -> Tensor:
        """One image for each row; the data tell only how many."""
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(self.prior_loc, 1.0).to_event(1))
            made: Tensor = pyro.deterministic("x", self.generator(z), event_dim=3)
            return made

    @torch.no_grad()
    def images(self, rows: int, at_once: int) -> Tensor:
        """Draws images in batches of the size that it was trained with."""
        parts = [self.generator(torch.randn(at_once, len(self.prior_loc))) for _ in range(-(-rows // at_once))]
        return torch.cat(parts)[:rows]
