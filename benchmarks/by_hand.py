"""The losses written out in torch, without a program: what every way is compared with.

Convention of this module: a module whose call on a batch is the loss in nats per datum, closed-form divergences where
there are any, one draw of noise for each latent value. They hold the very networks of the program they stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from benchmarks.programs import normal_parameters
from benchmarks.tasks import Kind, Task

__all__ = ["by_hand"]

LOG_SQRT_TWO_PI = 0.5 * math.log(2 * math.pi)


def by_hand(task: Task) -> nn.Module:
    """The loss of a task as a module, with the task's initial weights.

    Example:
        >>> from benchmarks.tasks import vae
        >>> task = vae(9, 4, 2, rows=3)
        >>> by_hand(task)(*task.batches[0]).shape
        torch.Size([])
    """
    return WRITTEN[task.kind](task.program(), task.particles).to(task.device)


class HandVAE(nn.Module):
    """The evidence bound of a variational autoencoder."""

    def __init__(self, program: Any, particles: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.particles = program.encoder, program.decoder, particles

    def forward(self, x: Tensor) -> Tensor:
        """Minus the bound."""
        loc, scale = normal_parameters(self.encoder(x))
        shape = loc.shape if self.particles == 1 else (self.particles, *loc.shape)
        logits = self.decoder(loc + scale * torch.randn(shape, device=x.device))
        cost = binary_cross_entropy_with_logits(logits, x.expand(logits.shape), reduction="sum") / self.particles
        return (cost + (0.5 * (scale**2 + loc**2 - 1) - scale.log()).sum()) / len(x)


class HandIWAE(HandVAE):
    """The importance-weighted bound of a variational autoencoder."""

    def forward(self, x: Tensor) -> Tensor:
        """Minus the bound."""
        loc, scale = normal_parameters(self.encoder(x))
        noise = torch.randn((self.particles, *loc.shape), device=x.device)
        z = loc + scale * noise
        logits = self.decoder(z)
        log_lik = -binary_cross_entropy_with_logits(logits, x.expand(logits.shape), reduction="none").sum(-1)
        log_weight = log_lik + (0.5 * (noise**2 - z**2) + scale.log()).sum(-1)
        return math.log(self.particles) - log_weight.logsumexp(0).mean()


class HandChain(nn.Module):
    """The evidence bound of a chain of latent vectors."""

    def __init__(self, program: Any, particles: int) -> None:
        super().__init__()
        self.features, self.heads, self.decoder = program.features, program.heads, program.decoder
        self.transitions = program.transitions

    def forward(self, x: Tensor) -> Tensor:
        """Minus the bound."""
        features = self.features(x)
        loc, scale = normal_parameters(self.heads[0](features))
        divergence = (0.5 * (scale**2 + loc**2 - 1) - scale.log()).sum()
        z = loc + scale * torch.randn_like(loc)
        for transition, head in zip(self.transitions, self.heads[1:], strict=True):
            loc, scale = normal_parameters(head(features))
            prior_loc, prior_scale = normal_parameters(transition(z))
            ratio, shift = scale / prior_scale, (loc - prior_loc) / prior_scale
            divergence = divergence + (0.5 * (ratio**2 + shift**2 - 1) - ratio.log()).sum()
            z = loc + scale * torch.randn_like(loc)
        return (binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") + divergence) / len(x)


class HandRegression(nn.Module):
    """The evidence bound of the hierarchical regression, all latents in one vector.

    In the order of the program's sites, positive ones by their logarithm.
    """

    def __init__(self, program: Any, particles: int) -> None:
        super().__init__()
        guide, features, groups = program.guide, program.regression.num_features, program.regression.num_groups
        self.sizes = [1, 1, features, 1, groups]
        names = ("intercept_mean", "intercept_scale", "slope", "noise_scale", "intercept_offset")
        locs = [getattr(guide.locs, name).detach().reshape(-1) for name in names]
        raw_scales = [getattr(guide.scales, name + "_unconstrained").detach().reshape(-1) for name in names]
        self.loc, self.raw_scale = nn.Parameter(torch.cat(locs)), nn.Parameter(torch.cat(raw_scales))

    def forward(self, x: Tensor, group: Tensor, y: Tensor) -> Tensor:
        """Minus the bound."""
        scale, noise = softplus(self.raw_scale), torch.randn_like(self.loc)
        latent = self.loc + scale * noise
        mean, log_tau, slope, log_sigma, offset = torch.split(latent, self.sizes)
        tau, sigma = log_tau.exp(), log_sigma.exp()
        residual = (y - (mean + tau * offset)[group] - x @ slope) / sigma
        log_lik = -(0.5 * residual**2).sum() - len(y) * (log_sigma.sum() + LOG_SQRT_TWO_PI)
        squares = mean.square().sum() + tau.square().sum() + slope.square().sum() + sigma.square().sum()
        log_prior = -0.5 * (squares + offset.square().sum()) + 2 * math.log(2) + (log_tau + log_sigma).sum()
        log_guide = -(0.5 * noise**2 + scale.log()).sum()  # the constants of prior and guide cancel
        loss: Tensor = (log_guide - log_prior - log_lik) / len(y)
        return loss


WRITTEN: dict[Kind, Callable[[Any, int], nn.Module]] = {
    "vae": HandVAE,
    "iwae": HandIWAE,
    "chain": HandChain,
    "regression": HandRegression,
}
