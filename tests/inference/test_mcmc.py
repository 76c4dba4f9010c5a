"""NUTS against posteriors that are known exactly, and what its draws carry."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference.mcmc import nuts

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", 8):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, ERRORS), obs=y)


def exact_eight_schools() -> dict[str, tuple[Tensor, Tensor]]:
    """Means and standard deviations by quadrature over tau; the rest is Gaussian given tau."""
    tau = torch.linspace(1e-4, math.atan(400.0), 20_000, dtype=torch.float64).tan()
    y, variance = EFFECTS.double(), ERRORS.double() ** 2
    spread = tau.unsqueeze(-1) ** 2
    precision = 1 / 25 + (1 / (variance + spread)).sum(-1)
    mu_mean, mu_variance = (y / (variance + spread)).sum(-1) / precision, 1 / precision
    total = (variance + spread).sqrt()
    mu = mu_mean.unsqueeze(-1)
    log_weight = (
        dist.HalfCauchy(5.0).log_prob(tau)
        + dist.Normal(0.0, 5.0).log_prob(mu_mean)
        + dist.Normal(mu, total).log_prob(y).sum(-1)
        + 0.5 * mu_variance.log()
        + (1 + tau**2).log()  # the grid is even in the angle
    )
    weight = log_weight.softmax(0)
    shrink = spread / (spread + variance)
    theta_mean = shrink * y + (1 - shrink) * mu
    theta_variance = shrink * variance + (1 - shrink) ** 2 * mu_variance.unsqueeze(-1)

    def moments(mean: Tensor, variance: Tensor | float) -> tuple[Tensor, Tensor]:
        weights = weight.reshape(-1, *(1,) * (mean.dim() - 1))
        average = (weights * mean).sum(0)
        return average, ((weights * (mean**2 + variance)).sum(0) - average**2).sqrt()

    return {
        "mu": moments(mu_mean, mu_variance),
        "theta": moments(theta_mean, theta_variance),
        "log_tau": moments(tau.log(), 0.0),
    }


@pytest.fixture(scope="module")
def school_draws():
    return nuts(eight_schools, EFFECTS, num_samples=1000, warmup=300, chains=2, seed=1)


def test_eight_schools_against_quadrature(school_draws):
    posterior = {name: torch.from_numpy(v).double() for name, v in school_draws.posterior.items()}
    posterior["log_tau"] = posterior["tau"].log()
    for name, (mean, deviation) in exact_eight_schools().items():
        drawn = posterior[name].flatten(0, 1)
        assert ((drawn.mean(0) - mean) / deviation).abs().max() < 0.1, name
        assert (drawn.std(0) / deviation - 1).abs().max() < 0.1, name


def test_draws_carry_their_dims_and_statistics(school_draws):
    shapes = {name: value.shape for name, value in school_draws.posterior.items()}
    batch = (2, 1000)
    assert shapes == {"mu": batch, "tau": batch, "eta": (*batch, 8), "theta": (*batch, 8)}
    assert school_draws.dims["theta"] == ("school",)
    assert school_draws.dims["mu"] == ()
    assert (school_draws.observed_data["y"] == EFFECTS.numpy()).all()
    stats = school_draws.sample_stats
    assert set(stats) == {"diverging", "lp", "acceptance_rate", "step_size"}
    assert all(value.shape == batch for value in stats.values())
    assert stats["diverging"].dtype == bool
    assert stats["diverging"].mean() < 0.02
    assert 0.7 < stats["acceptance_rate"].mean() < 0.97
    assert (stats["step_size"][:, :1] == stats["step_size"]).all()


def test_deterministic_sites_and_densities_are_those_of_the_draws(school_draws):
    value = {name: torch.from_numpy(v) for name, v in school_draws.posterior.items()}
    mu, tau = value["mu"].unsqueeze(-1), value["tau"].unsqueeze(-1)
    assert torch.allclose(value["theta"], mu + tau * value["eta"])
    likelihood = dist.Normal(value["theta"], ERRORS).log_prob(EFFECTS)
    assert torch.allclose(torch.from_numpy(school_draws.log_likelihood["y"]), likelihood, atol=1e-5)
    lp = (
        likelihood.sum(-1)
        + dist.Normal(0.0, 1.0).log_prob(value["eta"]).sum(-1)
        + dist.Normal(0.0, 5.0).log_prob(value["mu"])
        + dist.HalfCauchy(5.0).log_prob(value["tau"])
        + value["tau"].log()
    )
    assert torch.allclose(torch.from_numpy(school_draws.sample_stats["lp"]).float(), lp, atol=1e-3)


class Regression(nn.Module):
    """Weights as an event, a learned parameter held fixed, and data by name."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = nn.Parameter(torch.tensor(0.7))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), self.noise), obs=y)


class UnbroadcastRegression(Regression):
    """The same model written for single draws: it sums over the draws when given several."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        mean = (x * w.reshape(-1, 3).sum(0)).sum(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, self.noise), obs=y)


@pytest.fixture(scope="module")
def regression_data():
    torch.manual_seed(0)
    x = torch.randn(40, 3)
    return {"x": x, "y": x @ torch.tensor([1.0, -2.0, 0.5]) + 0.7 * torch.randn(40)}


@pytest.mark.parametrize("kind", [Regression, UnbroadcastRegression])
def test_conjugate_regression(kind, regression_data):
    """Exact posterior; and the same densities whether or not the model broadcasts over draws."""
    x, y = regression_data["x"].double(), regression_data["y"].double()
    program = kind()
    draws = nuts(program, **regression_data, num_samples=600, warmup=200, chains=2, seed=3)
    covariance = (x.T @ x / 0.49 + torch.eye(3) / 4).inverse()
    mean, deviation = covariance @ (x.T @ y) / 0.49, covariance.diagonal().sqrt()
    w = torch.from_numpy(draws.posterior["w"]).double()
    flat = w.flatten(0, 1)
    assert ((flat.mean(0) - mean) / deviation).abs().max() < 0.1
    assert (flat.std(0) / deviation - 1).abs().max() < 0.1
    likelihood = dist.Normal(w @ x.T, 0.7).log_prob(y)
    assert torch.allclose(torch.from_numpy(draws.log_likelihood["y"]).double(), likelihood, atol=1e-4)
    assert draws.dims == {"w": ("w_dim_0",), "y": ("data",)}
    assert program.noise.requires_grad
    assert program.noise.grad is None


def one_mean(x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def test_a_seed_gives_the_same_draws_and_leaves_the_random_state():
    state = torch.random.get_rng_state()
    settings = {"num_samples": 10, "warmup": 10, "chains": 2}
    runs = [nuts(one_mean, torch.ones(3), **settings, seed=s).posterior["mu"] for s in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()
    assert (runs[0][0] != runs[0][1]).any()


def test_a_density_that_branches_on_its_values_is_not_compiled():
    """A trace would follow the branch of the starting point for all others."""

    def model(x: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        far = mu > 0
        scale = 1.0 if bool(far) else 0.1
        pyro.sample("x", dist.Normal(mu.abs(), scale), obs=x)

    draws = nuts(model, torch.tensor(0.5), num_samples=30, warmup=30, chains=1)
    mu = torch.from_numpy(draws.posterior["mu"])
    scale = torch.where(mu > 0, 1.0, 0.1)
    exact = dist.Normal(0.0, 1.0).log_prob(mu) + dist.Normal(mu.abs(), scale).log_prob(torch.tensor(0.5))
    assert torch.allclose(torch.from_numpy(draws.sample_stats["lp"]).float(), exact, atol=1e-4)


def test_a_parameter_statement_is_held_fixed():
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
        mu = pyro.sample("mu", dist.Normal(0.0, scale))
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    nuts(model, torch.tensor(1.0), num_samples=5, warmup=5, chains=1)
    assert not pyro.get_param_store()


def test_observed_nested_plates_and_events_keep_their_shape():
    x = torch.randn(4, 3, 2)

    def model(x: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 3, dim=-1), pyro.plate("group", 4, dim=-2):
            z = pyro.sample("z", dist.Dirichlet(torch.ones(2)))
            pyro.sample("x", dist.Normal(mu.unsqueeze(-1) + z, 1.0).to_event(1), obs=x)

    draws = nuts(model, x, num_samples=8, warmup=8, chains=2)
    assert draws.posterior["z"].shape == (2, 8, 4, 3, 2)
    assert draws.log_likelihood["x"].shape == (2, 8, 4, 3)
    assert draws.dims["z"] == ("group", "row", "z_dim_0")
    assert (draws.observed_data["x"] == x.numpy()).all()


def discrete(x: Tensor) -> None:
    k = pyro.sample("k", dist.Bernoulli(0.5))
    pyro.sample("x", dist.Normal(k, 1.0), obs=x)


def subsampled(x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 100, subsample_size=len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def without_latents(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def on_a_sphere(x: Tensor) -> None:
    z = pyro.sample("z", dist.ProjectedNormal(torch.ones(3)))
    pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x.sum())


def impossible(x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)
        pyro.factor("never", torch.tensor(-math.inf))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (discrete, r"'k' is discrete \(Bernoulli\).*sum it out"),
        (subsampled, r"plate 'data' holds 3 of 100.*whole data set"),
        (without_latents, r"no latent sites"),
        (on_a_sphere, r"'z' \(ProjectedNormal\).*pyro\.deterministic"),
        (impossible, r"no point of finite density.*Remedy"),
    ],
)
def test_a_model_that_cannot_be_sampled_is_refused(model, message):
    with pytest.raises(ProgramError, match=message):
        nuts(model, torch.zeros(3), num_samples=5, warmup=5, chains=1)


@pytest.mark.parametrize("options", [{"num_samples": 0}, {"chains": 0}, {"warmup": -1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(OptionError, match="at least"):
        nuts(one_mean, torch.zeros(3), **options)
