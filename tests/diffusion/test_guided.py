"""A guided denoiser is the posterior's own where the factor of the noisy values is exact."""

import pyro.distributions as dist
import pytest
import torch

from ppl_genmodels.distributions.samplers import generate
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import CosineNoising, Denoiser, EDMNoising, Guided, LinearNoising, TimeMLP
from ppl_genmodels.transforms import ProbabilityFlow

NOISINGS = [LinearNoising, CosineNoising, EDMNoising]
SCALE, OBSERVED = 0.3, torch.tensor([0.7, -0.4], dtype=torch.float64)


def measured(dim):
    return torch.randn(2, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def noisy_factor(denoiser, matrix):
    """The exact density of what was observed, given a noisy value."""
    target, identity = denoiser.target, torch.eye(len(denoiser.target.mean), dtype=torch.float64)

    def log_factor(noisy, time):
        alpha, sigma = denoiser.scales(time)
        precision = (alpha / sigma).unsqueeze(-1) ** 2 * identity + target.precision_matrix
        spread = matrix @ torch.linalg.inv(precision) @ matrix.mT + SCALE**2 * identity[:2, :2]
        return dist.MultivariateNormal(denoiser(noisy, time).data @ matrix.mT, spread).log_prob(OBSERVED)

    return log_factor


def exact_posterior(target, matrix):
    noise = SCALE**2 * torch.eye(2, dtype=torch.float64)
    gain = target.covariance_matrix @ matrix.mT
    gain = gain @ torch.linalg.inv(matrix @ gain + noise)
    mean = target.mean + gain @ (OBSERVED - matrix @ target.mean)
    return dist.MultivariateNormal(mean, target.covariance_matrix - gain @ matrix @ target.covariance_matrix)


@pytest.fixture(params=NOISINGS)
def pair(request, gaussian):
    """The guided denoiser of a prior, and the exact denoiser of the posterior."""
    prior, exact = (gaussian(3, request.param()) for _ in range(2))
    matrix = measured(3)
    exact.target = exact_posterior(prior.target, matrix)
    exact.values, exact.vectors = torch.linalg.eigh(exact.target.covariance_matrix)
    return Guided(prior, noisy_factor(prior, matrix)), exact


def test_with_the_exact_factor_it_is_the_denoiser_of_the_posterior(pair):
    guided, exact = pair
    torch.manual_seed(0)
    time = torch.rand(4, 1, dtype=torch.float64).expand(4, 5) * 0.9 + 0.05
    noisy = guided.noisy(torch.randn(4, 5, 3, dtype=torch.float64), torch.randn(4, 5, 3, dtype=torch.float64), time)
    found, expected = guided(noisy, time), exact(noisy, time)
    for part in ("data", "noise", "score", "velocity"):
        torch.testing.assert_close(getattr(found, part), getattr(expected, part), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.alpha * found.data + found.sigma * found.noise, noisy)


def test_samplers_and_the_probability_flow_take_it(pair):
    guided, exact = pair
    torch.manual_seed(0)
    noise = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(
        generate(guided, noise, "dpm_solver", 20), generate(exact, noise, "dpm_solver", 20), rtol=1e-5, atol=1e-5
    )
    flows = [ProbabilityFlow(each, (3,), solver="rk4", steps=10).double() for each in (guided, exact)]
    (value, ladj), (expected, expected_ladj) = (flow.call_and_ladj(noise) for flow in flows)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ladj, expected_ladj, rtol=1e-4, atol=1e-4)


def test_a_factor_of_data_is_differentiated_through_the_denoiser(gaussian):
    denoiser, time = gaussian(3, LinearNoising()), torch.tensor(0.4, dtype=torch.float64)
    noisy = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    guided = Guided(denoiser, lambda data: -data.pow(4).sum(-1), weight=2.5, at="data")
    (expected,) = torch.autograd.grad(-2.5 * denoiser(noisy, time).data.pow(4).sum(), noisy)
    torch.testing.assert_close(guided(noisy, time).score - denoiser(noisy, time).score, expected)


def test_context_widening_and_gradients_of_parameters_pass_through():
    torch.manual_seed(0)
    network = TimeMLP(3, width=16, context_features=2)
    network.leave = torch.nn.Linear(16, 6)
    denoiser = Denoiser(network, CosineNoising(), learned_variance=True)
    noisy, time, context = torch.randn(5, 3), torch.rand(5), torch.randn(5, 2)
    for at in ("noisy", "data"):
        guided = Guided(denoiser, lambda value, *_: -value.square().sum(-1), at=at)
        found, plain = guided(noisy, time, context), denoiser(noisy, time, context)
        torch.testing.assert_close(found.widening, plain.widening)
        assert not torch.allclose(found.data, plain.data)
        found.data.sum().backward()
    assert all(
        parameter.grad.isfinite().all() for name, parameter in guided.named_parameters() if "importance" not in name
    )


def test_what_it_cannot_know_is_refused():
    with pytest.raises(OptionError, match="at='time', expected one of 'noisy', 'data'"):
        Guided(Denoiser(TimeMLP(2), CosineNoising()), torch.sum, at="time")
