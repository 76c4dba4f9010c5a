"""Evolution strategies: the gradient of the smoothed cost, from values alone."""

from contextlib import nullcontext

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.guides import AutoNormal
from ppl_genmodels.inference import compile_step

ROWS, CALLS = 3, 300
X = torch.tensor([0.3, -1.0, 2.0])


def identity(z):
    return z


def floor(z):
    return torch.as_tensor(np.floor(z.detach().numpy()))


class Smoothed(nn.Module):
    """A real number for each datum, seen through a function and noise."""

    family = staticmethod(dist.Normal)

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.loc, self.raw = nn.Parameter(torch.randn(ROWS)), nn.Parameter(0.3 * torch.randn(ROWS) - 0.5)

    def guide(self, x):
        with pyro.plate("data", ROWS):
            pyro.sample("z", self.family(self.loc, self.raw.exp()))

    def model(self, x):
        with pyro.plate("data", ROWS):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.function is identity):
                seen = self.function(z)
            pyro.sample("x", dist.Normal(seen, 1.0), obs=x)

    def exact(self):
        """The expected log-likelihood up to a constant, by the trapezoidal rule far into the tails."""
        grid = torch.linspace(-12.0, 12.0, 20_001, dtype=torch.float64).unsqueeze(1)
        density = self.family(self.loc.double(), self.raw.double().exp()).log_prob(grid).exp()
        cost = -0.5 * (X.double() - torch.as_tensor(self.function(grid))).square()
        return (density * cost).sum(0).mean() * (grid[1] - grid[0]).item()


class Heavy(Smoothed):
    """The same with a Student t of six degrees of freedom, whose quadratic cost has a finite variance."""

    @staticmethod
    def family(loc, scale):
        return dist.StudentT(torch.tensor(6.0), loc, scale)


class Unreparameterized(Smoothed):
    """The same, drawn without a pathwise gradient, so that it gets the score function."""

    @staticmethod
    def family(loc, scale):
        return dist.Normal(loc, scale).has_rsample_(False)


def gradients(program, source, particles=1, calls=CALLS, objective=None):
    parameters = [source.loc, source.raw]
    objective = objective or obj.log_lik()
    losses = (objective.loss(program, X, num_particles=particles) for _ in range(calls))
    return torch.stack([torch.cat(torch.autograd.grad(-loss, parameters)) for loss in losses])


def exact_gradient(source):
    return torch.cat(torch.autograd.grad(source.exact(), [source.loc, source.raw]))


def deviation(samples, exact):
    return ((samples.mean(0) - exact).abs() / (samples.std(0) / len(samples) ** 0.5)).max()


@pytest.mark.parametrize("make", [Smoothed, Heavy])
@pytest.mark.parametrize("function", [identity, floor])
@pytest.mark.parametrize(("pairs", "particles"), [(1, 1), (3, 1), (1, 3)])
def test_the_mean_is_the_gradient_of_the_smoothed_cost(make, function, pairs, particles):
    torch.manual_seed(3)
    source = make(function)
    samples = gradients(handlers.evolution(source, pairs=pairs), source, particles)
    assert deviation(samples, exact_gradient(source)) < 4.5


def test_a_black_box_gives_no_pathwise_gradient():
    torch.manual_seed(3)
    source = Smoothed(floor)
    loss = obj.log_lik().loss(source, X)
    assert not loss.requires_grad
    assert exact_gradient(source).abs().min() > 1e-3


def test_variance_in_the_location_is_below_the_score_function():
    """A far-off datum makes the cost steep, which mirrored draws cancel the even part of."""
    torch.manual_seed(3)
    source = Unreparameterized(lambda z: 3 * z)
    plain = gradients(source, source, particles=2).var(0)
    mirrored = gradients(handlers.evolution(source), source).var(0)  # the same two draws in each step
    assert mirrored[:ROWS].sum() < plain[:ROWS].sum()


def test_more_pairs_have_less_variance():
    torch.manual_seed(3)
    source = Smoothed(floor)
    one, eight = (gradients(handlers.evolution(source, pairs=n), source).var(0).sum() for n in (1, 8))
    assert eight < one / 3


def test_an_automatic_guide_is_served_at_its_auxiliary_site():
    source = Smoothed(floor)
    whole = as_program((source.model, AutoNormal(source.model)))
    whole.structure(X)
    obj.elbo().loss(handlers.evolution(whole), X).backward()
    assert all((parameter.grad != 0).all() for parameter in whole.parameters() if parameter.grad is not None)
    assert sum(parameter.grad is not None for parameter in whole.parameters()) == 2


def test_the_traced_step_gives_the_eager_values():
    values = []
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        source = Smoothed(identity)
        program = handlers.evolution(source, pairs=2)
        step = compile_step(obj.elbo(), program, torch.optim.SGD(source.parameters(), 0.01), mode=mode)
        torch.manual_seed(1)
        values.append(torch.stack([step(X) for _ in range(4)]))
    torch.testing.assert_close(*values)


def test_without_gradients_nothing_changes():
    source, values = Smoothed(identity), []
    for program in (source, handlers.evolution(source)):
        torch.manual_seed(4)
        values.append(obj.elbo("monte_carlo").evaluate(program, X))
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


def test_it_is_named_at_the_site_or_around_everything():
    """The same gradient as by the handler on the program, from one random state."""

    class Named(Smoothed):
        def guide(self, x):
            with pyro.plate("data", ROWS):
                pyro.sample("z", dist.Normal(self.loc, self.raw.exp()), infer={"gradient": handlers.Evolution()})

    found = []
    for make, wrap in ((Named, lambda source: source), (Smoothed, handlers.evolution), (Smoothed, None)):
        torch.manual_seed(0)
        source = make(floor)
        with nullcontext() if wrap else handlers.Evolution():
            found.append(gradients(wrap(source) if wrap else source, source, calls=3))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_prior_may_be_of_any_family():
    class Uniform(Smoothed):
        def model(self, x):
            with pyro.plate("data", ROWS):
                z = pyro.sample("z", dist.Uniform(-50.0, 50.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    for sites in ("z", None):
        obj.elbo().loss(handlers.evolution(Uniform(identity), sites=sites), X).backward()


def test_bad_input_is_refused():
    class Bounded(Smoothed):
        def guide(self, x):
            with pyro.plate("data", ROWS):
                pyro.sample("z", dist.LogNormal(self.loc, 1.0))

    with pytest.raises(ProgramError, match=r"'z': Evolution serves Normal.*got LogNormal"):
        obj.elbo().loss(handlers.evolution(Bounded(identity), sites="z"), X)
    with pytest.raises(OptionError, match=r"pairs must be a positive integer, got 0"):
        handlers.evolution(pairs=0)
    with pytest.raises(ProgramError, match=r"'z': Evolution serves terms that are sums over sites"):
        obj.iwae().loss(handlers.evolution(Smoothed(identity)), X, num_particles=2)
