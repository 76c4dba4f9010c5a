"""Programs whose posterior and evidence are known."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

ROWS, COLUMNS, LATENT, NOISE = 75, 4, 2, 0.6


class LinearGaussian(nn.Module):
    """x = W z + m + noise: the guide is the posterior, its covariance scaled by ``spread``."""

    def __init__(self, spread=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.loading = nn.Parameter(torch.randn(COLUMNS, LATENT, generator=generator))
        self.offset = nn.Parameter(torch.randn(COLUMNS, generator=generator))
        self.spread = spread
        z = torch.randn(ROWS, LATENT, generator=generator)
        noise = torch.randn(ROWS, COLUMNS, generator=generator)
        self.x = (z @ self.loading.T + self.offset + NOISE * noise).detach()

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            mean = pyro.deterministic("mean", z @ self.loading.T + self.offset, event_dim=1)
            pyro.sample("x", dist.Normal(mean, NOISE).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            mean, covariance = self.posterior(x)
            pyro.sample("z", dist.MultivariateNormal(mean, self.spread * covariance))

    def posterior(self, x):
        inverse = torch.linalg.inv(self.loading.T @ self.loading + NOISE**2 * torch.eye(LATENT))
        return (x - self.offset) @ self.loading @ inverse, NOISE**2 * inverse

    def marginal(self):
        covariance = self.loading @ self.loading.T + NOISE**2 * torch.eye(COLUMNS)
        return dist.MultivariateNormal(self.offset, covariance)


class SharedSlope(nn.Module):
    """y = x w + noise with one w for all rows: the guide is the posterior given the rows it is called with."""

    def __init__(self, spread=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(ROWS, LATENT, generator=generator)
        self.data = {"x": x, "y": x @ torch.tensor([1.0, -2.0]) + NOISE * torch.randn(ROWS, generator=generator)}
        self.spread = spread
        self.unused = nn.Parameter(torch.zeros(()))

    def model(self, x, y=None):
        w = pyro.sample("w", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), NOISE), obs=y)

    def guide(self, x, y=None):
        mean, covariance = self.posterior(x, y)
        pyro.sample("w", dist.MultivariateNormal(mean, self.spread * covariance))

    def posterior(self, x, y):
        covariance = torch.linalg.inv(x.T @ x / NOISE**2 + torch.eye(LATENT))
        return covariance @ x.T @ y / NOISE**2, covariance

    def evidence(self):
        x, y = self.data.values()
        covariance = x @ x.T + NOISE**2 * torch.eye(len(x))
        return dist.MultivariateNormal(torch.zeros(len(x)), covariance).log_prob(y)


class Mixture(nn.Module):
    """A discrete latent for each row; the guide is its exact posterior."""

    def __init__(self):
        super().__init__()
        self.locs = nn.Parameter(torch.tensor([-2.0, 0.5, 3.0]))
        self.x = torch.randn(ROWS, generator=torch.Generator().manual_seed(2)) * 2

    def components(self, x):
        return dist.Normal(self.locs, 1.0).log_prob(x.unsqueeze(-1))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Categorical(logits=torch.zeros(3)))
            pyro.sample("x", dist.Normal(self.locs[z], 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(logits=self.components(x)))


class Nested(nn.Module):
    """A global latent, one for each row, one for each cell of an inner plate, and sites that follow from them."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(0.3))
        generator = torch.Generator().manual_seed(3)
        self.data = {"x": torch.randn(ROWS, 3, generator=generator), "y": torch.randn(ROWS, 2, generator=generator)}

    def model(self, x=None, y=None):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * mean, event_dim=0)
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(mean, 1.0))
            pyro.sample("y", dist.Normal(z.unsqueeze(-1), 1.0).expand([*z.shape, 2]).to_event(1), obs=y)
            with pyro.plate("inner", 3):
                u = pyro.sample("u", dist.Normal(z, 0.5))
                pyro.deterministic("sum", u + z, event_dim=0)
                pyro.sample("x", dist.Normal(u, 0.5), obs=None if x is None else x.T)

    def guide(self, x, y=None):
        mean = pyro.sample("mean", dist.Normal(self.loc, 0.2))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.mean(1) + 0.1 * mean, 0.3))
            with pyro.plate("inner", 3):
                pyro.sample("u", dist.Normal(x.T + 0.1 * z, 0.4))


class Crossed(nn.Module):
    """The plate of rows stands left of an inner plate, and a site lies in it alone."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        generator = torch.Generator().manual_seed(4)
        self.data = {"x": torch.randn(ROWS, 3, generator=generator), "y": torch.randn(ROWS, generator=generator)}

    def model(self, x=None, y=None):
        with pyro.plate("data", 1 if x is None else len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(2 * z, 1.0), obs=None if y is None else y.unsqueeze(-1))
            with pyro.plate("inner", 3, dim=-1):
                pyro.sample("x", dist.Normal(z, self.scale), obs=x)

    def guide(self, x, y=None):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(x.mean(1, keepdim=True), 0.3))


@pytest.fixture
def linear_gaussian():
    return LinearGaussian


@pytest.fixture
def shared_slope():
    return SharedSlope


@pytest.fixture
def mixture():
    return Mixture


@pytest.fixture
def nested():
    return Nested


@pytest.fixture
def crossed():
    return Crossed
