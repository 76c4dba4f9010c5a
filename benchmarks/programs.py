"""The programs that are timed and that the catalogue does not have.

Convention of this module: a program is a module with ``model`` and ``guide``, written for Pyro, that any of the
libraries on Pyro can train as it stands; the other libraries get a translation with the same weights.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_genmodels.models import HierarchicalRegression
from ppl_genmodels.networks import MLP

__all__ = ["SMALLEST_SCALE", "Chain", "Regression", "normal_parameters"]

SMALLEST_SCALE = 1e-5
"""Added to every scale that a network gives, as in ``models.VAE``."""


def normal_parameters(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale from a network's output ``(..., 2 * width)``, each ``(..., width)``.

    Example:
        >>> loc, scale = normal_parameters(torch.zeros(3, 4))
        >>> loc.shape, scale.shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """
    loc, raw_scale = output.chunk(2, -1)
    return loc, softplus(raw_scale) + SMALLEST_SCALE


class Chain(nn.Module):
    r"""Latent vectors in a chain, a small network between each and the next, and bits at its end.

    .. math:: z_1 \sim \mathcal{N}(0, I), \quad z_i \sim p(z_i \mid z_{i-1}), \quad x \sim p(x \mid z_n)

    The guide reads every latent vector off the data by itself, from shared features.

    Args:
        num_sites: Latent sites, ``z1`` to ``z{num_sites}``.
        data_dim: Bits in a datum.
        latent_dim: Length of each latent vector.
        hidden: Width of the networks.

    Example:
        >>> program, x = Chain(num_sites=3), torch.zeros(5, 64)
        >>> program.guide(x).shape, program.model(x).shape
        (torch.Size([5, 8]), torch.Size([5, 64]))
    """

    prior_loc: Tensor
    prior_scale: Tensor

    def __init__(self, num_sites: int, data_dim: int = 64, latent_dim: int = 8, hidden: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(data_dim, hidden), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(hidden, 2 * latent_dim) for _ in range(num_sites))
        self.transitions = nn.ModuleList(MLP(latent_dim, 2 * latent_dim, (hidden,)) for _ in range(num_sites - 1))
        self.decoder = MLP(latent_dim, data_dim, (hidden,))
        self.register_buffer("prior_loc", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("prior_scale", torch.ones(latent_dim), persistent=False)

    def model(self, x: Tensor) -> Tensor:
        """Draws the chain and the bits."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z1", dist.Normal(self.prior_loc, self.prior_scale).to_event(1))
            for number, transition in enumerate(self.transitions, 2):
                z = pyro.sample(f"z{number}", dist.Normal(*normal_parameters(transition(z))).to_event(1))
            bits: Tensor = pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)
        return bits

    def guide(self, x: Tensor) -> Tensor:
        """Draws each latent vector from features of the data; the last one is returned."""
        features, z = self.features(x), self.prior_loc
        with pyro.plate("data", len(x)):
            for number, head in enumerate(self.heads, 1):
                z = pyro.sample(f"z{number}", dist.Normal(*normal_parameters(head(features))).to_event(1))
        return z


class Regression(nn.Module):
    """The hierarchical regression of the catalogue with Pyro's automatic normal guide.

    Args:
        num_features: Covariates.
        num_groups: Groups.
        example: One batch ``(x, group, y)``, on which the guide makes its parameters.

    Example:
        >>> batch = torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]), torch.zeros(4)
        >>> sorted(Regression(3, 2, batch).guide(*batch))
        ['intercept_mean', 'intercept_offset', 'intercept_scale', 'noise_scale', 'slope']
    """

    def __init__(self, num_features: int, num_groups: int, example: tuple[Tensor, Tensor, Tensor]) -> None:
        super().__init__()
        self.regression = HierarchicalRegression(num_features, num_groups)
        self.guide = AutoNormal(self.regression.model)
        with pyro.get_param_store().scope():
            self.guide(*example)

    def model(self, x: Tensor, group: Tensor, y: Tensor) -> Tensor:
        """Draws the coefficients and the responses."""
        return self.regression.model(x, group, y)
