"""The regressions: against closed forms, and on bad input."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.models import HierarchicalRegression, LinearRegression


@pytest.fixture(autouse=True)
def _own_parameters():
    with pyro.get_param_store().scope():
        yield


def log_joint(program, values, *data):
    """The log-density of the program, its latents at these values and its responses observed."""
    conditioned = poutine.condition(program.model, data=values)
    return poutine.trace(conditioned).get_trace(*data).log_prob_sum()


def test_the_linear_joint_is_exact_evidence_times_exact_posterior():
    """Bayes' theorem at arbitrary coefficients (Bishop 2006, equations 3.49 to 3.54)."""
    torch.manual_seed(0)
    prior_scale, noise_scale = 1.7, 0.6
    program = LinearRegression(3, prior_scale, noise_scale).to(torch.float64)
    x, y = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    design = torch.cat([torch.ones(9, 1), x], -1)
    covariance = prior_scale**2 * design @ design.T + noise_scale**2 * torch.eye(9)
    evidence = dist.MultivariateNormal(torch.zeros(9).double(), covariance).log_prob(y)
    precision = design.T @ design / noise_scale**2 + torch.eye(4) / prior_scale**2
    mean = torch.linalg.solve(precision, design.T @ y) / noise_scale**2
    posterior = dist.MultivariateNormal(mean, precision_matrix=precision)
    coefficients = torch.randn(4, dtype=torch.float64)
    values = {"intercept": coefficients[0], "slope": coefficients[1:]}
    expected = evidence + posterior.log_prob(coefficients)
    torch.testing.assert_close(log_joint(program, values, x, y), expected)


def grouped_data():
    torch.manual_seed(1)
    intercepts = torch.tensor([-1.0, 0.0, 0.5, 2.0])
    group = torch.arange(200) % 4
    x = torch.randn(200, 2)
    y = intercepts[group] + x @ torch.tensor([0.8, -0.5]) + 0.3 * torch.randn(200)
    return x, group, y


def test_the_hierarchical_joint_is_the_sum_written_out():
    x, group, y = grouped_data()
    mean, scale, noise = torch.tensor(0.3), torch.tensor(0.8), torch.tensor(0.4)
    slope, offset = torch.tensor([0.7, -0.4]), torch.tensor([-1.0, 0.2, 0.3, 1.5])
    values = {
        "intercept_mean": mean,
        "intercept_scale": scale,
        "slope": slope,
        "noise_scale": noise,
        "intercept_offset": offset,
    }
    standard, positive = torch.distributions.Normal(0, 1), torch.distributions.HalfNormal(1)
    expected = standard.log_prob(torch.cat([mean[None], slope, offset])).sum()
    expected += positive.log_prob(scale) + positive.log_prob(noise)
    for i in range(200):
        location = mean + scale * offset[group[i]] + x[i] @ slope
        expected += torch.distributions.Normal(location, noise).log_prob(y[i])
    program = HierarchicalRegression(2, 4)
    torch.testing.assert_close(log_joint(program, values, x, group, y), expected)


def test_variational_inference_finds_slopes_and_intercepts():
    """With 50 rows a group the posterior means lie by the least-squares estimates."""
    x, group, y = grouped_data()
    program = HierarchicalRegression(2, 4)
    pyro.set_rng_seed(0)
    guide = AutoNormal(program.model)
    elbo = Trace_ELBO(num_particles=4, max_plate_nesting=1, vectorize_particles=True)
    svi = SVI(program.model, guide, pyro.optim.Adam({"lr": 0.03}), elbo)
    for _ in range(500):
        svi.step(x, group, y)
    predictive = pyro.infer.Predictive(program.model, guide=guide, num_samples=300, parallel=True)
    draws = predictive(x, group, y)
    design = torch.cat([torch.nn.functional.one_hot(group).float(), x], -1)
    estimate = torch.linalg.lstsq(design, y[:, None]).solution.squeeze(-1)
    covariance = 0.3**2 * torch.linalg.inv(design.T @ design)
    standard_error = covariance.diagonal().sqrt()
    found = torch.cat([draws["intercept"].mean(0), draws["slope"].mean((0, 1))])
    assert ((found - estimate).abs() < 2 * standard_error).all()


def test_groups_are_exchangeable():
    """Relabelling the groups, in data and in offsets alike, leaves the density as it was."""
    x, group, y = grouped_data()
    program, order = HierarchicalRegression(2, 4), torch.tensor([2, 0, 3, 1])
    values = poutine.trace(program.model).get_trace(x, group).nodes
    latent = ("intercept_mean", "intercept_scale", "slope", "noise_scale", "intercept_offset")
    chosen = {name: values[name]["value"] for name in latent}
    relabelled = chosen | {"intercept_offset": chosen["intercept_offset"][order]}
    torch.testing.assert_close(
        log_joint(program, relabelled, x, order.argsort()[group], y),
        log_joint(program, chosen, x, group, y),
    )


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([0, 1, 4], "'group' has values from 0 to 4, expected 0 to 3 .num_groups=4.*num_groups=5"),
        ([-1, 1, 2], "'group' has values from -1 to 2, expected 0 to 3"),
        ([0.0, 1.0, 2.0], "'group' has dtype torch.float32, expected integers.*group.long()"),
        ([0, 1], r"'group' has shape \(2,\), expected \(3,\).*same number of rows"),
    ],
)
def test_groups_out_of_range_are_refused(group, message):
    program = HierarchicalRegression(2, 4)
    with pytest.raises(DataError, match=f"HierarchicalRegression: {message}"):
        program.model(torch.zeros(3, 2), torch.tensor(group))


def test_a_negative_group_is_never_silently_the_last():
    """Without validation, as in a traced step, the error is torch's own, but an error it is."""
    program = HierarchicalRegression(2, 4)
    with pyro.validation_enabled(False), pytest.raises(IndexError):
        program.model(torch.zeros(3, 2), torch.tensor([-1, 1, 2]))


def test_responses_of_another_shape_or_dtype_are_refused():
    program = LinearRegression(2)
    with pytest.raises(DataError, match=r"'y' has shape \(3, 1\), expected \(3,\)"):
        program.model(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(DataError, match=r"'y' has dtype torch.float64"):
        program.model(torch.zeros(3, 2), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(DataError, match=r"'x' has shape \(3, 5\), expected \(rows, 2\)"):
        program.model(torch.zeros(3, 5))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan"), "1"])
def test_scales_must_be_positive(scale):
    with pytest.raises(OptionError, match="LinearRegression: noise_scale="):
        LinearRegression(3, noise_scale=scale)


def test_sizes_must_be_positive():
    with pytest.raises(OptionError, match="HierarchicalRegression: num_groups=0"):
        HierarchicalRegression(2, 0)
