"""A flow as a guide: it closes the gap on a posterior that no independent normal fits."""

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import fit, nuts
from ppl_genmodels.distributions import Flow
from ppl_genmodels.guides import AutoFlow, spline
from ppl_genmodels.transforms import Affine, Autoregressive, Permute, Spline

X = torch.tensor([0.1, -0.2, 0.3])
NOISE, BEND = 0.5, 1.5


class Banana(nn.Module):
    """Data tell how far one number lies above the square of the other."""

    def __init__(self):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(2))
        self.register_buffer("scales", torch.tensor([1.0, 2.0]))

    def model(self, x):
        z = pyro.sample("z", dist.Normal(self.zeros, self.scales).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z[..., 1] - BEND * z[..., 0] ** 2 + 1.0, NOISE), obs=x)


class MeanField(Banana):
    def __init__(self):
        super().__init__()
        self.loc, self.raw = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def guide(self, x):
        pyro.sample("z", dist.Normal(self.loc, self.raw.exp()).to_event(1))


class ByFlow(Banana):
    def __init__(self):
        super().__init__()
        elements = [Affine(), Spline(), Spline()]
        layers = [Autoregressive(2, (32,), element, fast="sampling") for element in elements]
        self.layers = nn.ModuleList([layers[0], Permute([1, 0]), layers[1], Permute([1, 0]), layers[2]])

    def guide(self, x):
        pyro.sample("z", Flow(dist.Normal(self.zeros, 1.0).to_event(1), self.layers))


def by_hand():
    return ByFlow()


def automatic():
    banana = Banana()
    return banana.model, AutoFlow(banana.model, spline(2, (32,)))


def posterior(make):
    torch.manual_seed(0)
    fitted = fit(
        make(),
        X,
        steps=800,
        batch_size=3,
        num_particles=64,
        optimizer=lambda p: torch.optim.Adam(p, 5e-3, fused=True),
        progress=False,
    )
    return fitted.infer(X, num_samples=4000, seed=0)


def exact_moments():
    """Means and mean squares on a fine grid."""
    first, second = np.meshgrid(np.linspace(-4, 4, 801), np.linspace(-6, 12, 1801), indexing="ij")
    log_p = -0.5 * first**2 - 0.5 * (second / 2) ** 2
    for x in X.tolist():
        log_p = log_p - 0.5 * ((x - second + BEND * first**2 - 1) / NOISE) ** 2
    weights = np.exp(log_p - log_p.max())
    weights /= weights.sum()
    return np.array([(weights * value).sum() for value in (first, second, first**2, second**2)])


@pytest.fixture(scope="module", params=[by_hand, automatic])
def by_flow(request):
    return posterior(request.param)


@pytest.fixture(scope="module")
def by_nuts():
    """Means and mean squares of draws, with standard errors by the effective sample sizes."""
    draws = nuts((Banana().model, None), X, num_samples=400, warmup=300, chains=2, seed=0).posterior["z"]
    values = np.concatenate([draws, draws**2], -1)
    errors = [arviz.mcse(values[..., i]) for i in range(4)]
    return values.mean((0, 1)), np.array(errors).ravel()


def weighted_moments(idata):
    """Means and mean squares under importance weights, with standard errors."""
    z = idata.posterior["z"].values.reshape(-1, 2)
    log_weight = idata.sample_stats["log_weight"].values.reshape(-1)
    weights = np.exp(log_weight - log_weight.max())
    weights /= weights.sum()
    values = np.concatenate([z, z**2], 1)
    means = weights @ values
    return means, np.sqrt((weights[:, None] ** 2 * (values - means) ** 2).sum(0))


def test_the_flow_may_be_trusted_where_independent_normals_may_not(by_flow):
    assert float(by_flow.sample_stats["k_hat"]) < 0.7 < float(posterior(MeanField).sample_stats["k_hat"])


def test_weighted_moments_are_the_exact_ones(by_flow):
    means, errors = weighted_moments(by_flow)
    assert (np.abs(means - exact_moments()) < 4 * errors).all()


def test_weighted_moments_are_those_of_nuts(by_flow, by_nuts):
    means, errors = weighted_moments(by_flow)
    assert (np.abs(means - by_nuts[0]) < 4 * np.hypot(errors, by_nuts[1])).all()


def test_nuts_has_the_exact_moments(by_nuts):
    assert (np.abs(by_nuts[0] - exact_moments()) < 4 * by_nuts[1]).all()
