"""How much noise there is at each time: scales, their rates, and what can be seen through the noise."""

import math

import pytest
import torch

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import (
    CosineNoising,
    EDMNoising,
    LearnedNoising,
    LinearNoising,
    VarianceExploding,
    VariancePreserving,
)

NOISINGS = {
    "linear": LinearNoising,
    "cosine": CosineNoising,
    "learned": LearnedNoising,
    "exploding": VarianceExploding,
    "edm": EDMNoising,
}


def made(name):
    torch.manual_seed(0)
    return NOISINGS[name]().double()


@pytest.mark.parametrize("name", NOISINGS)
def test_what_is_seen_of_the_data_falls_all_the_time(name):
    log_snr = made(name).log_snr(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert (log_snr.diff() <= 0).all()
    assert log_snr[0] > 9 > -4 > log_snr[-1]


@pytest.mark.parametrize("name", NOISINGS)
def test_preserved_variances_sum_to_one(name):
    noising, time = made(name), torch.rand(100, dtype=torch.float64)
    alpha, sigma = noising.alpha(time), noising.sigma(time)
    if isinstance(noising, VariancePreserving):
        torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(time))
    else:
        assert (alpha == 1).all()


@pytest.mark.parametrize("name", NOISINGS)
def test_the_rates_lead_from_the_data_to_the_scales(name):
    """The moments of the process obey their own equations: of the mean's log f, of the variance 2 f v + g²."""
    noising, time, step = made(name), torch.linspace(0.1, 0.9, 9, dtype=torch.float64), 1e-5
    drift, squared_diffusion = noising.rates(time)
    after, before = time + step, time - step
    slope = (noising.log_alpha(after) - noising.log_alpha(before)) / (2 * step)
    growth = (noising.sigma(after) ** 2 - noising.sigma(before) ** 2) / (2 * step)
    torch.testing.assert_close(drift, slope, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(2 * drift * noising.sigma(time) ** 2 + squared_diffusion, growth, rtol=1e-6, atol=1e-8)


def test_the_linear_one_is_the_limit_of_a_thousand_steps():
    rates = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = (1 - rates).log().cumsum(0) / 2
    times = torch.arange(1, 1001, dtype=torch.float64) / 1000
    difference = LinearNoising().log_alpha(times) - kept
    # log(1 - b) = -b - b²/2 ..., summed over the steps, and half a step of the sum against the integral.
    bound = (rates.square().sum() / 4 + rates.max() / 2).item()
    assert difference.abs().max() < bound


def test_the_cosine_is_a_cosine():
    squared = CosineNoising().alpha(torch.tensor(0.25, dtype=torch.float64)) ** 2
    exact = math.cos(math.pi / 2 * 0.258 / 1.008) ** 2 / math.cos(math.pi / 2 * 0.008 / 1.008) ** 2
    assert squared.item() == pytest.approx(exact, rel=1e-12)


def test_the_learned_one_has_a_gradient_for_every_parameter_and_keeps_its_ends():
    noising = made("learned")
    time = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    noising.log_snr(time)[1].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in noising.parameters())
    ends = noising.log_snr(time)[[0, 2]].detach()
    torch.testing.assert_close(ends, torch.tensor([10.0, -5.0], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "make", [lambda: LinearNoising(3, 1), lambda: EDMNoising(1, 0.1), lambda: LearnedNoising(0, 1)]
)
def test_a_noising_that_does_not_add_noise_is_refused(make):
    with pytest.raises(OptionError):
        make()
