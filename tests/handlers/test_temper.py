"""Tempering: a site's density to a power is its term weighed by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import Program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.guides import AutoNormal
from ppl_genmodels.inference import compile_step

ROWS = 3
X = torch.tensor([0.3, -1.0, 2.0])


class Pair(nn.Module):
    """Two numbers for each datum, seen together."""

    def __init__(self):
        super().__init__()
        self.loc, self.raw = nn.Parameter(torch.tensor([0.4, -0.2, 1.0])), nn.Parameter(torch.zeros(ROWS))

    def guide(self, x):
        with pyro.plate("data", ROWS):
            pyro.sample("z", dist.Normal(self.loc, self.raw.exp()))
            pyro.sample("w", dist.Normal(-self.loc, 0.5))

    def model(self, x):
        with pyro.plate("data", ROWS):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            w = pyro.sample("w", dist.Normal(0.0, 2.0))
            pyro.sample("x", dist.Normal(z + w, 1.0), obs=x)


def value_and_gradient(program, objective, step=0, particles=1):
    source = program.source if isinstance(program, Program) else program
    torch.manual_seed(0)
    loss = objective.loss(program, X, num_particles=particles, step=step)
    return [loss, *torch.autograd.grad(loss, list(source.parameters()))]


POWERS = [0.3, torch.tensor(0.3), obj.Linear(0.1, 0.5, steps=10)]


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("particles", [1, 4])
def test_a_tempered_likelihood_is_the_weighted_term(power, particles):
    tempered = value_and_gradient(handlers.temper(Pair(), power=power, sites="x"), obj.elbo(), 5, particles)
    torch.testing.assert_close(tempered, value_and_gradient(Pair(), 0.3 * obj.log_lik() - obj.kl(), 5, particles))


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("method", ["auto", "monte_carlo"])
def test_a_tempered_latent_site_of_a_program_is_its_weighted_divergence(power, method):
    kl_z, kl_w = obj.kl("z", method=method), obj.kl("w", method=method)
    tempered = value_and_gradient(handlers.temper(Pair(), power=power, sites="z"), obj.elbo(method), 5)
    torch.testing.assert_close(tempered, value_and_gradient(Pair(), obj.log_lik() - 0.3 * kl_z - kl_w, 5))


@pytest.mark.parametrize("power", POWERS)
def test_a_tempered_prior_alone_leaves_the_guide_as_it_is(power):
    """The closed form of the divergence would not see the power."""
    source = Pair()
    program = Program(handlers.temper(source.model, power=power, sites="z"), source.guide, source=source)
    tempered = value_and_gradient(program, obj.elbo(), 5)
    by_hand = obj.log_lik() - obj.kl("z", method="monte_carlo") - 0.7 * obj.log_prob("z") - obj.kl("w")
    torch.testing.assert_close(tempered, value_and_gradient(Pair(), by_hand, 5))


def test_a_traced_step_sees_the_schedule():
    """The values of three steps at a standstill, by hand and traced, under one random state."""
    schedule = obj.Exponential(0.01, 1.0, steps=4)
    programs = {"hand": Pair(), "traced": Pair()}
    values = {}
    for name, source in programs.items():
        program = handlers.temper(source, power=schedule, sites="x") if name == "traced" else source
        objective = obj.elbo() if name == "traced" else schedule * obj.log_lik() - obj.kl()
        optimizer = torch.optim.SGD(source.parameters(), 0.0)
        step = compile_step(objective, program, optimizer, mode="trace" if name == "traced" else "off")
        torch.manual_seed(1)
        values[name] = torch.stack([step(X) for _ in range(6)])
    torch.testing.assert_close(values["traced"], values["hand"])


def test_without_a_step_a_schedule_has_its_end_value():
    program = handlers.temper(Pair(), power=obj.Linear(0.1, 2.0, steps=10), sites="x")
    found = []
    for each, kwargs in ((Pair(), {}), (program, {}), (program, {"step": 5})):
        torch.manual_seed(0)
        found.append(obj.log_lik().evaluate(each, X, **kwargs)["log_lik"])
    torch.testing.assert_close(found[1], 2.0 * found[0])
    torch.testing.assert_close(found[2], 1.05 * found[0])


def test_importance_weights_are_tempered():
    torch.manual_seed(0)
    tempered = obj.iwae().loss(handlers.temper(Pair(), power=0.3), X, num_particles=5)
    torch.manual_seed(0)
    run = obj.Run(Program(Pair().model, Pair().guide), (X,), {}, 5)
    weight = 0.3 * obj.log_weight(run)
    torch.testing.assert_close(tempered, -(weight.logsumexp(0) - torch.tensor(5.0).log()).mean())


def test_scores_of_draws_are_not_tempered():
    """The draw is that of the guide: the score function has the plain gradient times the weight of the cost."""

    class Bits(Pair):
        def guide(self, x):
            with pyro.plate("data", ROWS):
                pyro.sample("b", dist.Bernoulli(logits=self.loc))

        def model(self, x):
            with pyro.plate("data", ROWS):
                b = pyro.sample("b", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(b + 0.0 * self.raw, 1.0), obs=x)

    tempered = value_and_gradient(handlers.temper(Bits(), power=0.3, sites="x"), obj.log_lik(), particles=4)
    plain = value_and_gradient(Bits(), obj.log_lik(), particles=4)
    torch.testing.assert_close(tempered[1], 0.3 * plain[1])


def test_four_forms_and_predicates():
    source = Pair()

    def scale_of(fn):
        return pyro.poutine.trace(fn).get_trace(X).nodes["x"]["scale"]

    def inside(x):
        with handlers.Temper(0.3, lambda msg: msg["is_observed"]):
            source.model(x)

    forms = [
        handlers.temper(source.model, power=0.3),
        handlers.temper(source, power=0.3).model,
        handlers.Temper(0.3, ["x", "z"])(source.model),
        inside,
    ]
    assert [scale_of(form) for form in forms] == [0.3] * 4


@pytest.mark.parametrize("power", [0.0, -1.0, float("nan"), float("inf"), torch.tensor(-1.0), obj.Linear(0.0, 1.0, 5)])
def test_powers_that_are_not_positive_are_refused(power):
    with pytest.raises(OptionError, match=r"power must be positive and finite, got .*Remedy"):
        handlers.temper(Pair(), power=power)


def test_other_bad_input_is_refused():
    with pytest.raises(OptionError, match=r"power is a number, a scalar tensor or a schedule"):
        handlers.temper(Pair(), power=torch.ones(2))
    with pytest.raises(UnknownNameError, match=r"'y' of Temper"):
        obj.elbo().loss(handlers.temper(Pair(), power=0.5, sites="y"), X)
    source = Pair()
    whole = Program(source.model, AutoNormal(source.model))
    whole.structure(X)
    obj.elbo().loss(handlers.temper(whole, power=0.5, sites="x"), X)
    with pytest.raises(ProgramError, match=r"'z': Temper.*automatic guide.*temper\(model"):
        obj.elbo().loss(handlers.temper(whole, power=0.5, sites="z"), X)
