"""When the closed-form divergence is right: a site's parents in the model must come before it in the guide."""

import math

import pyro
import pyro.distributions as dist
import torch

from ppl_genmodels import Program
from ppl_genmodels import objectives as obj

X = torch.zeros(4)


def model(x):
    with pyro.plate("data", len(x)):
        first = pyro.sample("first", dist.Normal(0.0, 1.0))
        second = pyro.sample("second", dist.Normal(first, 0.5))
        pyro.sample("x", dist.Normal(second, 1.0), obs=x)


def in_order(x):
    with pyro.plate("data", len(x)):
        first = pyro.sample("first", dist.Normal(0.3, 0.8))
        pyro.sample("second", dist.Normal(0.9 * first, 0.6))


def reversed_order(x):
    """The same joint distribution as ``in_order``, written from the second site to the first."""
    variance = 0.81 * 0.64 + 0.36
    gain = 0.9 * 0.64 / variance
    with pyro.plate("data", len(x)):
        second = pyro.sample("second", dist.Normal(0.27, math.sqrt(variance)))
        spread = math.sqrt(0.64 - gain * 0.9 * 0.64)
        pyro.sample("first", dist.Normal(0.3 + gain * (second - 0.27), spread))


def divergence(guide, method="auto", particles=20_000):
    torch.manual_seed(0)
    run = obj.Run(Program(model, guide), (X,), {}, particles)
    values = obj.kl(method=method).values(run)["kl"]
    return values.mean(), values.std() / math.sqrt(values.numel()), run.divergences


def test_both_orders_give_the_same_divergence():
    first, error, used = divergence(in_order)
    second, other_error, other_used = divergence(reversed_order)
    assert used == {"first": "closed form", "second": "closed form"}
    assert other_used == {"first": "closed form", "second": "Monte Carlo"}
    assert abs(first - second) < 4 * (error**2 + other_error**2).sqrt()


def test_forcing_the_closed_form_against_the_order_gives_another_number():
    """Why the order is checked: the prior of the second site would be averaged over a first one that knows it."""
    right, error, _ = divergence(in_order)
    wrong, other_error, _ = divergence(reversed_order, method="closed_form")
    assert abs(right - wrong) > 10 * (error**2 + other_error**2).sqrt()


def test_mixture_of_discrete_and_continuous_sites_with_particles():
    def discrete(x):
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(0.3))

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(0.6))

    exact = dist.kl.kl_divergence(dist.Bernoulli(0.6), dist.Bernoulli(0.3))
    run = obj.Run(Program(discrete, guide), (X,), {}, 3)
    torch.testing.assert_close(obj.kl().values(run)["kl"], exact.expand(3, 4))
