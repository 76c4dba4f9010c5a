"""Energies at all levels of noise: one network whose scores are gradients of densities."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels.distributions import Energy, NoisyEnergy
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import CosineNoising, Denoiser, EnergyGradient, TimeMLP, VarianceExploding
from ppl_genmodels.objectives import score_matching

NOISINGS = [VarianceExploding(0.1, 5.0), CosineNoising()]
SCALE = 0.6


class Best(nn.Module):
    """The network whose energy is that of normal data with noise, when the factor is one."""

    def __init__(self, noising):
        super().__init__()
        self.noising, self.factor = noising, nn.Parameter(torch.ones(()).double())

    def forward(self, x, time):
        alpha, sigma = self.noising.alpha(time), self.noising.sigma(time)
        spread = (alpha**2 * SCALE**2 + sigma**2).sqrt()
        return x - self.factor * (sigma / spread).sqrt().unsqueeze(-1) * x


class Program(nn.Module):
    def __init__(self, denoiser):
        super().__init__()
        self.energy = NoisyEnergy(denoiser)

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", Energy(self.energy, (2,)), obs=x)


def best(noising):
    return Denoiser(EnergyGradient(Best(noising)), noising.double(), data_scale=SCALE)


def test_the_gradient_is_that_of_the_energy():
    network = EnergyGradient(TimeMLP(3, width=8).double())
    nn.init.normal_(network.network.leave.weight)
    x, time = torch.randn(5, 3).double().requires_grad_(), torch.rand(5).double()
    (expected,) = torch.autograd.grad(network.energy(x, time).sum(), x)
    torch.testing.assert_close(network(x, time), expected)


@pytest.mark.parametrize("noising", NOISINGS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("time", [0.1, 0.6])
def test_at_each_time_it_is_the_density_of_data_with_noise(noising, time):
    denoiser, x = best(noising), torch.randn(6, 2).double()
    alpha, sigma = denoiser.scales(torch.tensor(time).double())
    noisy = dist.Normal(torch.zeros(2).double(), (alpha**2 * SCALE**2 + sigma**2).sqrt()).to_event(1)
    ratio = Energy(NoisyEnergy(denoiser, time), (2,)).log_prob(x) - noisy.log_prob(x)
    torch.testing.assert_close(ratio, ratio[:1].expand(6))
    torch.testing.assert_close(
        Energy(NoisyEnergy(denoiser, time), (2,)).score(x), denoiser(x, torch.tensor(time).double()).score
    )


@pytest.mark.parametrize("noising", NOISINGS, ids=lambda each: type(each).__name__)
def test_the_exact_scores_are_the_optimum_at_all_levels(noising, at_zero):
    torch.manual_seed(0)
    program = Program(best(noising))
    x = SCALE * torch.randn(20_000, 2).double()
    at_zero(score_matching("x"), program, x, "energy.denoiser.network.network.factor")
    with torch.no_grad():
        program.energy.denoiser.network.network.factor.fill_(1.1)
    with pytest.raises(AssertionError):
        at_zero(score_matching("x"), program, x, "energy.denoiser.network.network.factor")


def test_a_denoiser_that_is_no_energy_is_refused():
    with pytest.raises(OptionError, match="predicts noise by TimeMLP, whose score is not known to be a gradient"):
        NoisyEnergy(Denoiser(TimeMLP(2), CosineNoising()))
