"""Trained amortized guides against posteriors that are known in closed form."""

from collections.abc import Callable
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import Tensor, nn

from ppl_genmodels.guides import Amortized


def train(model: Callable, guide: Callable, parameters, x: Tensor, elbo, steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        elbo.differentiable_loss(model, guide, x).div(len(x)).backward()
        optimizer.step()
        schedule.step()


def fitted_guide(model: Callable, encoder: nn.Module, x: Tensor, steps=600, rate=0.05, particles=16) -> Amortized:
    pyro.set_rng_seed(0)
    guide = Amortized(model, encoder)
    guide(x)
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    train(model, guide, guide.parameters(), x, elbo, steps, rate)
    return guide


def draws(guide: Amortized, x: Tensor, particles: int) -> dict[str, Tensor]:
    with torch.no_grad(), pyro.plate("_particles", particles, dim=-2):
        return guide(x)


class OneHotCount(nn.Module):
    """Counts as classes, so that the guide has free parameters for each count."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x.sum(-1).long(), self.classes).float()


LOADING = torch.tensor([[1.0, 0.5], [1.0, -0.5], [1.0, 0.5], [1.0, -0.5]])
MEAN = torch.tensor([0.5, -1.0, 0.0, 2.0])


def probabilistic_pca(x: Tensor) -> None:
    """Columns of the loading are orthogonal, so that the posterior has independent coordinates."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ LOADING.T + MEAN, 0.7).to_event(1), obs=x)


def test_probabilistic_pca_reaches_its_exact_evidence():
    covariance = LOADING @ LOADING.T + 0.49 * torch.eye(4)
    marginal = dist.MultivariateNormal(MEAN, covariance)
    torch.manual_seed(1)
    x = marginal.sample((64,))
    guide = fitted_guide(probabilistic_pca, nn.Identity(), x)
    elbo = -Trace_ELBO(num_particles=50).loss(probabilistic_pca, guide, x) / len(x)
    assert elbo == pytest.approx(marginal.log_prob(x).mean().item(), abs=1e-2)


def test_two_levels_have_the_exact_conditional_means():
    slope, inner, outer = 1.5, 0.8, 0.6

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            top = pyro.sample("top", dist.Normal(0.0, 1.0))
            bottom = pyro.sample("bottom", dist.Normal(slope * top, inner))
            pyro.sample("x", dist.Normal(bottom, outer), obs=x.squeeze(-1))

    x = torch.linspace(-3, 3, 32).unsqueeze(-1)
    guide = fitted_guide(model, nn.Identity(), x)
    trace = poutine.trace(guide).get_trace(x)
    variance = inner**2 + outer**2
    top_mean = x.squeeze(-1) * slope / (slope**2 + variance)
    assert trace.nodes["top"]["fn"].mean.sub(top_mean).abs().max() < 0.03
    top = trace.nodes["top"]["value"]
    gain = inner**2 / variance
    bottom_mean = (1 - gain) * slope * top + gain * x.squeeze(-1)
    assert trace.nodes["bottom"]["fn"].mean.sub(bottom_mean).abs().max() < 0.03
    bottom_scale = (inner**2 * outer**2 / variance) ** 0.5
    assert trace.nodes["bottom"]["fn"].stddev.sub(bottom_scale).abs().max() < 0.03


def test_beta_bernoulli_moments():
    trials = 40

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            p = pyro.sample("p", dist.Beta(2.0, 3.0))
            likelihood = dist.Bernoulli(p.unsqueeze(-1)).expand([*p.shape, trials])
            pyro.sample("x", likelihood.to_event(1), obs=x)

    counts = torch.tensor([8, 20, 30])
    x = (torch.arange(trials) < counts.unsqueeze(-1)).float()
    guide = fitted_guide(model, OneHotCount(trials + 1), x, particles=128)
    p = draws(guide, x, 20_000)["p"]
    exact = dist.Beta(2.0 + counts, 3.0 + trials - counts)
    assert p.mean(0).sub(exact.mean).abs().max() < 0.005
    assert p.std(0).div(exact.stddev).sub(1).abs().max() < 0.04


def test_gamma_poisson_moments():
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(3.0, 0.5))
            likelihood = dist.Poisson(rate.unsqueeze(-1)).expand([*rate.shape, 5])
            pyro.sample("x", likelihood.to_event(1), obs=x)

    x = torch.tensor([[4.0, 7, 5, 6, 8], [12, 9, 11, 14, 8], [3, 2, 6, 4, 5]])
    guide = fitted_guide(model, OneHotCount(60), x, particles=128)
    rate = draws(guide, x, 20_000)["rate"]
    exact = dist.Gamma(3.0 + x.sum(-1), 0.5 + 5)
    assert rate.mean(0).div(exact.mean).sub(1).abs().max() < 0.01
    assert rate.std(0).div(exact.stddev).sub(1).abs().max() < 0.04


CENTRES = torch.tensor([-2.0, 0.0, 1.5])
WEIGHTS = torch.tensor([0.2, 0.5, 0.3])


def mixture(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(WEIGHTS))
        pyro.sample("x", dist.Normal(CENTRES[k], 1.0), obs=x.squeeze(-1))


def test_mixture_responsibilities_by_enumeration():
    """The log-odds of equal-width components are linear in the data: the guide can be exact."""
    x = torch.linspace(-4, 4, 40).unsqueeze(-1)
    pyro.set_rng_seed(0)
    guide = Amortized(mixture, nn.Identity())
    guide(x)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    train(mixture, config_enumerate(guide), guide.parameters(), x, elbo, steps=400, rate=0.3)
    fitted = poutine.trace(guide).get_trace(x).nodes["k"]["fn"].probs
    exact = (WEIGHTS.log() + dist.Normal(CENTRES, 1.0).log_prob(x)).softmax(-1)
    assert fitted.sub(exact).abs().max() < 0.01


def test_global_sites_have_the_exact_posterior_of_a_mean():
    def model(x: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(5.0, 3.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 2.0), obs=x)

    torch.manual_seed(0)
    x = 4.0 + 2.0 * torch.randn(50)
    guide = fitted_guide(model, nn.Identity(), x, steps=800)
    q = poutine.trace(guide).get_trace(x).nodes["mu"]["fn"]
    precision = 1 / 9 + 50 / 4
    assert q.mean.item() == pytest.approx((5 / 9 + x.sum().item() / 4) / precision, abs=0.03)
    assert q.stddev.item() == pytest.approx(precision**-0.5, rel=0.05)


def test_a_discrete_parent_shifts_its_child_under_enumeration():
    """Two classes, each with its own mean of a continuous latent: both conditionals are exact."""
    shift = torch.tensor([-1.0, 2.0])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.5])))
            z = pyro.sample("z", dist.Normal(shift[k], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.squeeze(-1))

    x = torch.linspace(-4, 4, 30).unsqueeze(-1)
    pyro.set_rng_seed(0)
    guide = Amortized(model, nn.Identity())
    guide(x)
    enumerated = partial(config_enumerate, default="parallel")(guide)
    elbo = TraceEnum_ELBO(max_plate_nesting=1, num_particles=8, vectorize_particles=True)
    train(model, enumerated, guide.parameters(), x, elbo, steps=500, rate=0.1)
    for k in (0, 1):
        fixed = poutine.condition(guide, {"k": torch.full((30,), k)})
        z = poutine.trace(fixed).get_trace(x).nodes["z"]["fn"]
        assert z.mean.sub((shift[k] + x.squeeze(-1)) / 2).abs().max() < 0.06
        assert z.stddev.sub(0.5**0.5).abs().max() < 0.03
