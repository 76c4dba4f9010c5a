"""Mixtures of normal distributions, whose denoiser and whose posterior given a linear measurement are known.

Convention of this module: double precision; a measurement is ``y = A x`` with independent normal noise of one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from ppl_genmodels.networks import Denoised, Denoiser, Noising


@dataclass(frozen=True)
class Mixture:
    """Weights (component,), means (component, dim) and covariances (component, dim, dim)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def distribution(self) -> MixtureSameFamily:
        """As a distribution."""
        return MixtureSameFamily(Categorical(self.weights), MultivariateNormal(self.means, self.covariances))

    def scale(self) -> float:
        """The standard deviation of a number, about."""
        return float(self.distribution().variance.mean().sqrt())


class MixtureDenoiser(Denoiser):
    """The exact denoiser of a mixture."""

    def __init__(self, mixture: Mixture, noising: Noising) -> None:
        super().__init__(nn.Identity(), noising.double(), data_scale=mixture.scale())
        self.mixture = mixture

    def forward(self, noisy: Tensor, time: Tensor, context: Tensor | None = None) -> Denoised:
        """The expected data and noise."""
        alpha, sigma = self.scales(time)
        means, covariances = self.mixture.means, self.mixture.covariances
        spread = alpha**2 * covariances + sigma**2 * torch.eye(means.shape[-1], dtype=means.dtype)
        away = noisy.unsqueeze(-2) - alpha * means
        log_density = MultivariateNormal(torch.zeros_like(means), spread).log_prob(away)
        shares = (log_density + self.mixture.weights.log()).softmax(-1).unsqueeze(-1)
        gain = alpha * covariances @ torch.linalg.inv(spread)
        data = (shares * (means + (gain @ away.unsqueeze(-1)).squeeze(-1))).sum(-2)
        return Denoised(data, (noisy - alpha * data) / sigma, alpha, sigma)


@dataclass(frozen=True)
class Measurement:
    """What was measured of a draw: the matrix (measured, dim), the noise's scale, and the values (measured,)."""

    matrix: Tensor
    scale: float
    y: Tensor

    def log_likelihood(self, x: Tensor) -> Tensor:
        """In nats, for values (..., dim)."""
        return Normal(x @ self.matrix.mT, self.scale).log_prob(self.y).sum(-1)

    def posterior(self, prior: Mixture) -> tuple[Mixture, float]:
        """The exact posterior, and the log evidence in nats."""
        noise = self.scale**2 * torch.eye(len(self.y), dtype=self.y.dtype)
        evidence = MultivariateNormal(
            prior.means @ self.matrix.mT, self.matrix @ prior.covariances @ self.matrix.mT + noise
        )
        gain = prior.covariances @ self.matrix.mT @ evidence.precision_matrix
        covariances = prior.covariances - gain @ self.matrix @ prior.covariances
        means = prior.means + (gain @ (self.y - evidence.mean).unsqueeze(-1)).squeeze(-1)
        logits = prior.weights.log() + evidence.log_prob(self.y)
        found = Mixture(logits.softmax(-1), means, (covariances + covariances.mT) / 2)
        return found, float(logits.logsumexp(-1))
