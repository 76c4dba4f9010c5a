"""Normal densities as energies, of which everything is known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels.distributions import Energy, ReplayBuffer


class GaussianEnergy(nn.Module):
    """The energy of a normal density, without its normalizer."""

    def __init__(self, loc, precision):
        super().__init__()
        self.loc, self.precision = nn.Parameter(loc.clone()), nn.Parameter(precision.clone())

    def forward(self, x):
        centered = x - self.loc
        return 0.5 * (centered @ self.precision * centered).sum(-1)

    @property
    def log_normalizer(self):
        precision = self.precision.detach()
        return 0.5 * (len(precision) * math.log(2 * math.pi) - torch.linalg.slogdet(precision)[1])


class GaussianProgram(nn.Module):
    """Rows whose distribution is a normal density given as an energy, or as any distribution."""

    def __init__(self, target, chains=50):
        super().__init__()
        self.network = GaussianEnergy(target.mean, torch.linalg.inv(target.covariance_matrix))
        self.log_normalizer = nn.Parameter(torch.zeros_like(target.mean[0]))
        self.chains = ReplayBuffer((2,), chains).double()
        self.start = dist.Normal(torch.zeros_like(target.mean), 2.0).to_event(1)

    def density(self):
        step = 0.2 * torch.linalg.inv(self.network.precision.detach()).diagonal()
        return Energy(self.network, self.start.event_shape, self.log_normalizer, self.start, 50, step, self.chains)

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", self.density(), obs=x)


def gaussian(dim):
    generator = torch.Generator().manual_seed(dim)
    factor = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    covariance = factor @ factor.mT / dim + 0.3 * torch.eye(dim, dtype=torch.float64)
    return dist.MultivariateNormal(torch.randn(dim, dtype=torch.float64, generator=generator), covariance)


@pytest.fixture
def target():
    return gaussian(2)


@pytest.fixture
def program(target):
    torch.manual_seed(0)
    return GaussianProgram(target)


def gradient_with_error(objective, program, x, name):
    """The mean over rows of each row's gradient with its standard error: what the loss gives, row by row."""
    parameter = dict(program.named_parameters())[name]
    rows = []
    for part in x.split(len(x) // 40):
        program.zero_grad(set_to_none=True)
        objective.loss(program, part).backward()
        rows.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone())
    rows = torch.stack(rows)
    return rows.mean(0), rows.std(0) / len(rows) ** 0.5


@pytest.fixture
def at_zero():
    """Asserts that the expected gradient of an objective in a parameter is zero, to 4.5 standard errors."""

    def check(objective, program, x, name):
        mean, error = gradient_with_error(objective, program, x, name)
        assert (mean.abs() < 4.5 * error).all(), (mean, error)
        return mean, error

    return check
