"""The programs that handlers are timed on: one for each kind of site that a handler may serve.

Convention of this module: small networks, so that what a handler costs is seen; 32 rows of 64 random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.models import VAE
from ppl_genmodels.networks import MLP, weight_sites

__all__ = ["COLUMNS", "PROGRAMS", "ROWS", "Timed"]

ROWS, COLUMNS, HIDDEN = 32, 64, 32


class OneHot(nn.Module):
    """An autoencoder whose latents are one-hot vectors.

    Args:
        sites: How many for each row.
        classes: Values of each.
    """

    def __init__(self, sites: int, classes: int) -> None:
        super().__init__()
        self.sites, self.classes = sites, classes
        self.encoder = MLP(COLUMNS, sites * classes, (HIDDEN,))
        self.decoder = MLP(sites * classes, COLUMNS, (HIDDEN,))

    def model(self, x: Tensor) -> None:
        """The vectors, and Bernoulli columns given them."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self._latent(x.new_zeros(len(x), self.sites, self.classes)))
            pyro.sample(
                "x", dist.Bernoulli(logits=self.decoder(z.flatten(-2 if self.sites > 1 else -1))).to_event(1), obs=x
            )

    def guide(self, x: Tensor) -> None:
        """Their logits from the rows."""
        with pyro.plate("data", len(x)):
            pyro.sample("z", self._latent(self.encoder(x).unflatten(-1, (self.sites, self.classes))))

    def _latent(self, logits: Tensor) -> dist.Distribution:
        if self.sites == 1:
            return dist.OneHotCategorical(logits=logits.squeeze(-2))
        return dist.OneHotCategorical(logits=logits).to_event(1)


class Bits(nn.Module):
    """An autoencoder of 20 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = MLP(COLUMNS, 20, (HIDDEN,)), MLP(20, COLUMNS, (HIDDEN,))

    def model(self, x: Tensor) -> None:
        """The bits, and Bernoulli columns given them."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=x.new_zeros(len(x), 20)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Their logits from the rows."""
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


class Weights(nn.Module):
    """A network with drawn weights, from the columns of a row but the last to the last."""

    def __init__(self) -> None:
        super().__init__()
        self.network = weight_sites(MLP(COLUMNS - 1, 1, (HIDDEN,)))
        sizes = {name: site.size() for name, site in self._prior().items()}
        self.names = list(sizes)
        self.locs = nn.ParameterList(nn.Parameter(0.1 * torch.randn(size)) for size in sizes.values())
        self.scales = nn.ParameterList(nn.Parameter(torch.full(size, -3.0)) for size in sizes.values())

    def _prior(self) -> dict[str, Tensor]:
        nodes = pyro.poutine.trace(self.network).get_trace(torch.zeros(1, COLUMNS - 1)).nodes
        return {name: node["value"] for name, node in nodes.items() if name.endswith(("weight", "bias"))}

    def model(self, x: Tensor) -> None:
        """The weights, and the last column given the others."""
        mean = self.network(x[:, :-1]).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x[:, -1])

    def guide(self, x: Tensor) -> None:
        """Independent Normals."""
        for name, loc, scale in zip(self.names, self.locs, self.scales, strict=True):
            pyro.sample(name, dist.Normal(loc, scale.exp()).to_event(loc.dim()))


@dataclass(frozen=True)
class Timed:
    """A program, and what its plain step is.

    Attributes:
        make: Makes it, always with the same weights after the same seed.
        plain: What passes the gradient where no handler is applied.
        particles: Draws from the guide.
        lowered: Whether its steps are lowered too, which takes each some seconds.
    """

    make: Callable[[], nn.Module]
    plain: str
    particles: int = 1
    lowered: bool = False


def _autoencoder() -> nn.Module:
    return VAE(data_dim=COLUMNS, latent_dim=10, hidden=(HIDDEN,))


PROGRAMS = {
    "10 one-hot vectors of 10 classes": Timed(lambda: OneHot(10, 10), "score function, leave one out", lowered=True),
    "one one-hot vector of 10 classes": Timed(lambda: OneHot(1, 10), "score function, leave one out"),
    "20 bits": Timed(Bits, "score function, leave one out"),
    "10 real numbers": Timed(_autoencoder, "pathwise", lowered=True),
    "10 real numbers, 4 particles": Timed(_autoencoder, "pathwise", particles=4),
    "weights of a network": Timed(Weights, "pathwise"),
}
"""By what their latent sites are."""
