"""Gaussian data, of which everything that a diffusion estimates is known.

Convention of this module: values are in double precision; ``values`` and ``vectors`` are the eigenvalues and
eigenvectors of the data's covariance.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.networks import Denoised, Denoiser, Noising


def gaussian(dim: int) -> dist.MultivariateNormal:
    """Some normal distribution of a dimension, always the same; its eigenvalues lie between 0.1 and about 4."""
    generator = torch.Generator().manual_seed(dim)
    factor = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    loc = torch.randn(dim, dtype=torch.float64, generator=generator)
    return dist.MultivariateNormal(loc, factor @ factor.mT / dim + 0.1 * torch.eye(dim, dtype=torch.float64))


class GaussianDenoiser(Denoiser):
    """The exact denoiser of a normal distribution."""

    def __init__(self, target: dist.MultivariateNormal, noising: Noising) -> None:
        super().__init__(nn.Identity(), noising)
        self.target = target
        self.values, self.vectors = torch.linalg.eigh(target.covariance_matrix)

    def forward(self, noisy: Tensor, time: Tensor, context: Tensor | None = None) -> Denoised:
        """The expected data and noise."""
        alpha, sigma = self.scales(time)
        along = (noisy - alpha * self.target.mean) @ self.vectors
        gain = alpha * self.values / (alpha**2 * self.values + sigma**2)
        data = self.target.mean + (gain * along) @ self.vectors.mT
        return Denoised(data, (noisy - alpha * data) / sigma, alpha, sigma)

    def marginal(self, time: Tensor) -> dist.MultivariateNormal:
        """The exact distribution of the noisy values at a time."""
        alpha, sigma = self.scales(time)
        identity = torch.eye(len(self.values), dtype=self.values.dtype)
        return dist.MultivariateNormal(
            alpha * self.target.mean, alpha**2 * self.target.covariance_matrix + sigma**2 * identity
        )

    def carried(self, noise: Tensor) -> Tensor:
        """Where the exact probability flow carries standard normal noise: each principal axis by its own factor."""
        noisiest = self.marginal(torch.ones((), dtype=noise.dtype))
        _, sigma = self.scales(torch.ones((), dtype=noise.dtype))
        along = (sigma * noise - noisiest.mean) @ self.vectors
        spread = torch.linalg.eigvalsh(noisiest.covariance_matrix)
        return self.target.mean + (along * (self.values / spread).sqrt()) @ self.vectors.mT

    def gap(self, steps: int) -> float:
        """What the bound of a chain of so many steps lacks of the evidence, in expectation over the data, in nats."""
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        ratio = self.noising.log_snr(times)
        alpha, sigma = self.scales(times)
        error = (alpha**2 * self.values / (alpha**2 * self.values + sigma**2)).sum(-1)  # of the noise, at each time
        inner = 0.5 * (torch.expm1(ratio[:-1] - ratio[1:]) * error[1:]).sum()
        size = self.target.mean.square().sum() + self.values.sum()
        features = len(self.values)
        decoded = 0.5 * features * (torch.log(torch.tensor(2 * torch.pi)) + 1 - ratio[0])
        last = 0.5 * ratio[-1].exp() * size
        return float(inner + decoded + last - self.target.entropy())
