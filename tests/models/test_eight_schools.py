"""The eight schools: against quadrature, and on bad input."""

import pyro
import pytest
import torch
from pyro import poutine

from ppl_genmodels.errors import DataError
from ppl_genmodels.models import EightSchools


def posterior_by_quadrature(y, sigma):
    """Mean and variance of mu, tau and the effects, with the effects integrated out by hand."""
    mu = torch.linspace(-25, 35, 601, dtype=torch.float64)[:, None, None]
    log_tau = torch.linspace(-8, 5, 1201, dtype=torch.float64)[None, :, None]
    tau = log_tau.exp()
    total = (tau.square() + sigma.square()).sqrt()
    log_weight = torch.distributions.Normal(mu, total).log_prob(y).sum(-1, keepdim=True)
    log_weight = log_weight + torch.distributions.Normal(0.0, 5.0).log_prob(mu)
    log_weight = log_weight + torch.distributions.HalfCauchy(5.0).log_prob(tau) + log_tau
    weight = log_weight.flatten().softmax(0).reshape(log_weight.shape)
    pooling = tau.square() / total.square()
    theta = mu + pooling * (y - mu)
    quantities = {"mu": mu, "tau": tau, "theta": theta}
    return {name: (weight * value).sum((0, 1)) for name, value in quantities.items()}


def test_the_posterior_is_that_of_quadrature():
    """Draws from the prior, weighted by the likelihood that the program gives them."""
    program, data = EightSchools(), EightSchools.data()
    draws = 400_000
    pyro.set_rng_seed(0)
    with torch.no_grad(), pyro.plate("draws", draws, dim=-2):
        trace = poutine.trace(program.model).get_trace(**data)
    trace.compute_log_prob()
    weight = trace.nodes["y"]["log_prob"].double().sum(-1).softmax(0)[:, None]
    exact = posterior_by_quadrature(data["y"].double(), data["sigma"].double())
    for name, expected in exact.items():
        value = trace.nodes[name]["value"].double()
        mean = (weight * value).sum(0)
        standard_error = (weight * (value - mean)).square().sum(0).sqrt()
        assert (standard_error < 0.2).all()
        assert ((mean - expected).abs() < 4 * standard_error).all(), name


def test_the_data_are_rubins():
    data = EightSchools.data()
    assert data["y"].tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    assert data["sigma"].tolist() == [15, 10, 16, 11, 9, 11, 10, 18]


def test_without_standard_errors_rubins_are_used():
    program, data = EightSchools(), EightSchools.data()
    pyro.set_rng_seed(0)
    with_errors = poutine.trace(program.model).get_trace(**data).log_prob_sum()
    pyro.set_rng_seed(0)
    assert poutine.trace(program.model).get_trace(data["y"]).log_prob_sum() == with_errors


@pytest.mark.parametrize("schools", [1, 3])
def test_any_number_of_schools_with_their_errors(schools):
    sigma = torch.full((schools,), 10.0)
    assert EightSchools().model(sigma=sigma).shape == (schools,)
    assert EightSchools().model(torch.zeros(schools), sigma).shape == (schools,)


def test_bad_data_are_refused():
    program = EightSchools()
    with pytest.raises(DataError, match=r"'y' has shape \(3,\), and without 'sigma'"):
        program.model(torch.zeros(3))
    with pytest.raises(DataError, match=r"'y' has shape \(3,\), expected \(2,\)"):
        program.model(torch.zeros(3), torch.ones(2))
    with pytest.raises(DataError, match=r"'sigma' has dtype torch.float64"):
        program.model(sigma=torch.ones(2, dtype=torch.float64))
