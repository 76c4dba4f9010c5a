"""Langevin chains keep the target's moments; unadjusted ones have the variance that their step gives them."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels.distributions import annealed_langevin, langevin
from ppl_genmodels.distributions.langevin import adjusted_step, chains_at
from ppl_genmodels.distributions.samplers import time_grid
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import Denoiser, VarianceExploding
from ppl_genmodels.networks.denoiser import Denoised

CHAINS = 10_000


def moments_agree(values, mean, covariance):
    """To 4.5 standard errors of normal moments."""
    count = len(values)
    deviation = covariance.diagonal().sqrt()
    assert ((values.mean(0) - mean).abs() < 4.5 * deviation / count**0.5).all()
    error = ((covariance**2 + deviation[:, None] ** 2 * deviation**2) / count).sqrt()
    assert ((values.T.cov() - covariance).abs() < 4.5 * error).all()


@pytest.mark.parametrize("step_size", [0.05, 0.3])
def test_adjusted_chains_keep_the_moments_whatever_the_step(target, step_size):
    torch.manual_seed(0)
    ends = langevin(target.log_prob, target.sample((CHAINS,)), steps=30, step_size=step_size)
    moments_agree(ends, target.mean, target.covariance_matrix)


def test_adjusted_chains_from_elsewhere_reach_the_moments(target):
    torch.manual_seed(0)
    start = torch.full((CHAINS, 2), 3.0, dtype=torch.float64)
    ends = langevin(target.log_prob, start, steps=300, step_size=0.3)
    moments_agree(ends, target.mean, target.covariance_matrix)


@pytest.mark.parametrize("step_size", [0.2, 1.0])
def test_unadjusted_chains_have_the_variance_of_their_recursion(step_size):
    """x' = (1 - h) x + sqrt(2h) e has the variance 2 / (2 - h)."""
    torch.manual_seed(0)
    start = torch.randn(CHAINS, 1, dtype=torch.float64)
    ends = langevin(lambda x: -0.5 * x.square().sum(-1), start, steps=60, step_size=step_size, adjusted=False)
    moments_agree(ends, torch.zeros(1), torch.tensor([[2 / (2 - step_size)]]))


def test_each_coordinate_may_have_its_own_step():
    torch.manual_seed(0)
    scale = torch.tensor([0.01, 100.0])
    wide = dist.Normal(torch.zeros(2), scale).to_event(1)
    ends = langevin(wide.log_prob, torch.zeros(CHAINS, 2), steps=60, step_size=0.5 * scale**2)
    moments_agree(ends / scale, torch.zeros(2), torch.eye(2))


def test_values_without_event_dims_are_chains_of_their_own():
    torch.manual_seed(0)
    gamma = dist.Gumbel(torch.zeros(2, 1), torch.tensor([1.0, 2.0]).unsqueeze(-1), validate_args=False)
    ends = langevin(gamma.log_prob, torch.zeros(2, CHAINS), steps=100, step_size=0.5)
    error = gamma.stddev[:, 0] / CHAINS**0.5
    assert ((ends.mean(1) - gamma.mean[:, 0]).abs() < 4.5 * error).all()


def test_steps_to_where_the_density_is_no_number_are_refused():
    chains = chains_at(lambda x: (1 - x).log().sum(-1) + x.log().sum(-1), torch.full((1000, 1), 0.5))
    for _ in range(20):
        chains, taken = adjusted_step(lambda x: (1 - x).log().sum(-1) + x.log().sum(-1), chains, 0.05)
    assert 0 < taken.sum() < 1000
    assert ((chains.value > 0) & (chains.value < 1)).all()


def test_no_gradient_passes_a_chain(target):
    start = target.sample((3,)).requires_grad_()
    assert not langevin(target.log_prob, start, steps=2, step_size=0.1).requires_grad


class ExactDenoiser(Denoiser):
    """Of normal data with independent coordinates."""

    def __init__(self, loc, variance):
        super().__init__(nn.Identity(), VarianceExploding(0.1, 8.0))
        self.loc, self.variance = loc, variance

    def forward(self, noisy, time, context=None):
        alpha, sigma = self.scales(time)
        noise = sigma * (noisy - self.loc) / (self.variance + sigma**2)
        return Denoised(noisy - sigma * noise, noise, alpha, sigma)


def test_annealed_chains_have_the_moments_of_their_recursion():
    """The chain of a normal density is linear, so that its mean and variance are known at every step."""
    torch.manual_seed(0)
    loc, variance = torch.tensor([2.0, -1.0]).double(), torch.tensor([0.2, 3.0]).double()
    denoiser, levels, steps, size = ExactDenoiser(loc, variance), 12, 40, 0.1

    def moments(steps):
        mean, spread = torch.zeros(2).double(), torch.full((2,), 64.0).double()
        for time in time_grid(levels - 1, loc):
            sigma = denoiser.noising.sigma(time)
            kept = 1 - size * sigma**2 / (variance + sigma**2)
            fixed = 2 * size * sigma**2 / (1 - kept**2)
            mean, spread = loc + kept**steps * (mean - loc), fixed + kept ** (2 * steps) * (spread - fixed)
        return mean, spread

    ends = annealed_langevin(denoiser, 8 * torch.randn(CHAINS, 2).double(), levels, steps, size)
    mean, spread = moments(steps)
    moments_agree(ends, mean, spread.diag())
    mean, spread = moments(10_000)  # long chains have the moments of the data with the least noise
    torch.testing.assert_close(mean, loc)
    torch.testing.assert_close(spread, variance + 0.1**2, atol=0, rtol=0.01)


def test_what_cannot_be_is_refused(target):
    start = torch.zeros(1, 2).double()
    with pytest.raises(OptionError, match="step_size=-1"):
        langevin(target.log_prob, start, steps=1, step_size=-1.0)
    with pytest.raises(OptionError, match="steps=0"):
        langevin(target.log_prob, start, steps=0, step_size=0.1)
    with pytest.raises(OptionError, match="levels=1"):
        annealed_langevin(ExactDenoiser(0.0, 1.0), start, levels=1)
    assert math.isfinite(langevin(target.log_prob, start, steps=1, step_size=0.1).sum())
