"""Sampling at a temperature: what is drawn changes, what is given does not."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import Program, fit, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, UnknownNameError
from ppl_genmodels.inference.predictive import sample_prior
from ppl_genmodels.models import VAE

X = torch.tensor([0.3, -1.0, 2.0])


class Chain(nn.Module):
    """A number seen through another, whose posterior is known."""

    def __init__(self):
        super().__init__()
        self.loc, self.raw = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-0.5 * math.log(2.0)))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            return pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc * x, self.raw.exp()))


def draws(temperature, sites=None, count=20_000):
    program = Program(Chain().model, Chain().guide)
    program.structure(X)
    with handlers.temper(temperature=temperature, sites=sites):
        return sample_prior(program, count, seed=1)


@pytest.mark.parametrize("temperature", [0.5, 1.5, torch.tensor(0.5)])
def test_prior_draws_have_the_variances_of_the_temperature(temperature):
    """Of z, and of x less z, within five standard errors."""
    found, square = draws(temperature), float(temperature) ** 2
    for values in (found["z"], found["x"] - found["z"]):
        assert abs(values.var().item() - square) < 5 * square * math.sqrt(2 / len(values))
        assert abs(values.mean().item()) < 5 * math.sqrt(square / len(values))


def test_only_the_named_sites_change():
    found, count = draws(0.1, "z"), 20_000
    assert abs(found["z"].var().item() - 0.01) < 5 * 0.01 * math.sqrt(2 / count)
    assert abs((found["x"] - found["z"]).var().item() - 1.0) < 5 * math.sqrt(2 / count)


def test_temperature_one_changes_nothing():
    plain = sample_prior(Program(Chain().model), 50, seed=1)
    assert all(torch.equal(value, plain[name]) for name, value in draws(1.0, count=50).items())


def test_two_temperatures_multiply():
    with handlers.temper(temperature=2.0), handlers.Temperature(0.25, "z"):
        found = sample_prior(Program(Chain().model), 50, seed=1)
    once = draws(0.5, "z", 50)
    torch.testing.assert_close(found["z"], once["z"])


def test_what_is_observed_or_replayed_is_priced_as_it_was():
    source, found = Chain(), []
    for model in (source.model, handlers.temper(source.model, temperature=0.3)):
        torch.manual_seed(0)
        run = obj.Run(Program(model, source.guide, source=source), (X,), {})
        found.append(run.log_prob(run.model.nodes.values()))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("form", ["program", "context"])
def test_evidence_by_a_guide_at_a_temperature_is_the_evidence(form):
    """The exact posterior at any temperature is a proposal whose weights average to the evidence of N(0, 2)."""
    exact = dist.Normal(0.0, math.sqrt(2.0)).log_prob(X)
    source = Chain()
    torch.manual_seed(2)
    if form == "program":
        run = obj.Run(handlers.temper(source, temperature=1.3), (X,), {}, 20_000)
        weight = obj.log_weight(run).detach()
    else:
        with handlers.temper(temperature=1.3):
            weight = obj.log_weight(obj.Run(Program(source.model, source.guide), (X,), {}, 20_000)).detach()
    ratio = (weight - exact).exp()
    assert ratio.std(0).min() > 0.1  # not the exact posterior any more
    assert ((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / math.sqrt(20_000)).all()


def test_it_goes_with_handlers_of_noise_however_they_are_nested():
    source = Chain()
    found = []
    for outer, inner in (
        (handlers.common_noise(), handlers.Temperature(0.5)),
        (handlers.Temperature(0.5), handlers.common_noise()),
    ):
        with outer, inner:
            found.append(pyro.poutine.trace(source.model).get_trace().nodes["z"]["value"])
    with handlers.common_noise():
        plain = pyro.poutine.trace(source.model).get_trace().nodes["z"]["value"]
    torch.testing.assert_close(found, [0.5 * plain] * 2)


def test_a_fitted_program_samples_at_a_temperature():
    x = torch.rand(32, 6).round()
    fitted = fit(VAE(data_dim=6, latent_dim=2), x, steps=2, progress=False)
    with handlers.temper(temperature=0.01):
        cold = fitted.sample(400, seed=0)
    warm = fitted.sample(400, seed=0)
    torch.testing.assert_close(cold["z"], 0.01 * warm["z"])
    typical = sorted({tuple(row) for row in cold["x"].tolist()})
    assert len(typical) < len({tuple(row) for row in warm["x"].tolist()})


def test_four_forms():
    source = Chain()

    def at(fn, *args):
        torch.manual_seed(5)
        return pyro.poutine.trace(fn).get_trace(*args).nodes["z"]["value"]

    def inside():
        with handlers.Temperature(0.5):
            source.model()

    forms = [
        handlers.temper(source.model, temperature=0.5),
        handlers.temper(source, temperature=0.5).model,
        handlers.Temperature(0.5, ["z"])(source.model),
        inside,
    ]
    assert len({at(form).item() for form in forms}) == 1
    torch.testing.assert_close(at(forms[0]), 0.5 * at(source.model))


def test_the_stack_is_left_as_it_was():
    from pyro.poutine.runtime import _PYRO_STACK

    with handlers.Temperature(0.5), handlers.common_noise(), handlers.Temperature(2.0):
        assert len(_PYRO_STACK) == 5
    assert not _PYRO_STACK


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), torch.ones(2), "warm"])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(OptionError, match="temperature"):
        handlers.temper(temperature=temperature)


@pytest.mark.parametrize("given", [{}, {"power": 0.5, "temperature": 0.5}])
def test_just_one_of_power_and_temperature_is_taken(given):
    with pytest.raises(OptionError, match=r"one of power and temperature.*Remedy"):
        handlers.temper(**given)


def test_other_bad_input_is_refused():
    def gamma():
        pyro.sample("rate", dist.Gamma(1.0, 1.0))

    with pytest.raises(OptionError, match=r"site 'rate' at a temperature.*Gamma.*Remedy"):
        handlers.temper(gamma, temperature=0.5)()
    with pytest.raises(UnknownNameError, match=r"'y' of Temperature"):
        handlers.temper(Chain().model, temperature=0.5, sites="y")(X)
