"""Gaussian data, of which the best denoiser is known."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels.networks import Denoiser
from ppl_genmodels.networks.denoiser import Denoised


class GaussianDenoiser(Denoiser):
    """The exact denoiser of a normal distribution."""

    def __init__(self, target, noising):
        super().__init__(nn.Identity(), noising)
        self.target = target
        self.values, self.vectors = torch.linalg.eigh(target.covariance_matrix)

    def forward(self, noisy, time, context=None):
        alpha, sigma = self.scales(time)
        along = (noisy - alpha * self.target.mean) @ self.vectors
        gain = alpha * self.values / (alpha**2 * self.values + sigma**2)
        data = self.target.mean + (gain * along) @ self.vectors.mT
        return Denoised(data, (noisy - alpha * data) / sigma, alpha, sigma)

    def marginal(self, time):
        """The exact distribution of the noisy values at a time."""
        alpha, sigma = self.scales(time)
        identity = torch.eye(len(self.values), dtype=self.values.dtype)
        covariance = alpha**2 * self.target.covariance_matrix + sigma**2 * identity
        return dist.MultivariateNormal(alpha * self.target.mean, covariance)


@pytest.fixture
def gaussian():
    """From a dimension and a noising to the exact denoiser of some normal distribution."""

    def make(dim, noising):
        generator = torch.Generator().manual_seed(dim)
        factor = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
        covariance = factor @ factor.mT / dim + 0.1 * torch.eye(dim, dtype=torch.float64)
        loc = torch.randn(dim, dtype=torch.float64, generator=generator)
        return GaussianDenoiser(dist.MultivariateNormal(loc, covariance), noising.double())

    return make
