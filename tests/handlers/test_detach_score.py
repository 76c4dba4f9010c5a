"""Sticking the landing: no variance at the exact posterior, and unbiased elsewhere."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide.initialization import init_to_value
from torch import nn

from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.guides import AutoMultivariateNormal, AutoNormal
from ppl_genmodels.inference import compile_step

ROWS, CALLS = 3, 300
X = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)


class Conjugate(nn.Module):
    """A standard Normal seen through standard noise: the posterior is Normal(x / 2, 1 / 2)."""

    def __init__(self, exact=False):
        super().__init__()
        self.loc = nn.Parameter(X / 2 if exact else torch.randn(ROWS).double())
        self.raw = nn.Parameter(torch.full((ROWS,), 0.5).double().log() / 2 if exact else torch.zeros(ROWS).double())
        self.prior = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def guide(self, x):
        with pyro.plate("data", ROWS):
            pyro.sample("z", self.posterior())

    def posterior(self):
        return dist.Normal(self.loc, self.raw.exp())

    def model(self, x):
        with pyro.plate("data", ROWS):
            z = pyro.sample("z", dist.Normal(self.prior, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class Affine(Conjugate):
    """The same by a transformation with parameters, which keeps what it last computed."""

    def posterior(self):
        standard = dist.Normal(torch.zeros(ROWS, dtype=torch.float64), 1.0)
        transform = torch.distributions.AffineTransform(self.loc, self.raw.exp(), cache_size=1)
        return dist.TransformedDistribution(standard, [transform])


class Chain(nn.Module):
    """A Gaussian chain in which the guide draws the second number given the first."""

    def __init__(self):
        super().__init__()
        self.loc, self.link = nn.Parameter(torch.randn(ROWS).double()), nn.Parameter(torch.tensor(0.4).double())
        self.raw = nn.Parameter(torch.tensor([-0.3, 0.2]).double())

    def guide(self, x):
        with pyro.plate("data", ROWS):
            first = pyro.sample("first", dist.Normal(self.loc, self.raw[0].exp()))
            pyro.sample("second", dist.Normal(self.link * first, self.raw[1].exp()))

    def model(self, x):
        with pyro.plate("data", ROWS):
            first = pyro.sample("first", dist.Normal(0.0, 1.0))
            second = pyro.sample("second", dist.Normal(0.5 * first, 1.0))
            pyro.sample("x", dist.Normal(first + second, 1.0), obs=x)


def gradients(program, source, particles=1, calls=CALLS, objective=None):
    parameters = list(source.parameters())
    losses = ((objective or obj.elbo()).loss(program, X, num_particles=particles) for _ in range(calls))
    found = (torch.autograd.grad(-loss, parameters, materialize_grads=True) for loss in losses)
    return torch.stack([torch.cat([g.reshape(-1) for g in each]) for each in found])


def of_guide(samples):
    """Without the last parameter, the model's."""
    return samples[:, :-1]


@pytest.mark.parametrize("make", [Conjugate, Affine])
@pytest.mark.parametrize("particles", [1, 3])
def test_the_gradient_is_zero_at_the_exact_posterior(make, particles):
    torch.manual_seed(0)
    source = make(exact=True)
    landed = of_guide(gradients(handlers.detach_score(source), source, particles, calls=5))
    plain = of_guide(gradients(source, source, particles, calls=5, objective=obj.elbo("monte_carlo")))
    assert landed.abs().max() < 1e-13  # a few roundings of numbers of order one
    assert plain.abs().max() > 1e-2


@pytest.mark.parametrize("make", [Conjugate, Affine, Chain])
@pytest.mark.parametrize("particles", [1, 3])
def test_the_mean_gradient_is_that_of_the_whole_density(make, particles):
    """Beside the pathwise gradient by Monte Carlo, whose expectation is the gradient."""
    torch.manual_seed(1)
    source = make()
    landed = gradients(handlers.detach_score(source), source, particles)
    plain = gradients(source, source, particles, objective=obj.elbo("monte_carlo"))
    error = ((landed.var(0) + plain.var(0)) / CALLS).sqrt()
    assert ((landed.mean(0) - plain.mean(0)).abs() <= 4.5 * error + 1e-12).all()


def test_a_density_without_any_gradient_is_caught():
    """The mean beside that of the objective without log q, as if the draw in it were held constant as well."""
    torch.manual_seed(1)
    source = Conjugate()
    landed = gradients(handlers.detach_score(source), source, particles=10)
    plain = gradients(source, source, particles=10, objective=obj.log_lik() + obj.log_prob("z"))
    error = ((landed.var(0) + plain.var(0)) / CALLS).sqrt()
    assert ((landed.mean(0) - plain.mean(0)).abs() > 6 * error).any()


def test_the_value_is_the_monte_carlo_estimate_and_the_prior_learns():
    source, values = Conjugate(), []
    for program, objective in ((source, obj.elbo("monte_carlo")), (handlers.detach_score(source), obj.elbo())):
        torch.manual_seed(2)
        loss = objective.loss(program, X)
        values.append(torch.stack([loss, torch.autograd.grad(loss, source.prior)[0]]))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("make", [AutoNormal, AutoMultivariateNormal])
def test_automatic_guides_are_served_at_their_auxiliary_sites(make):
    """The posterior of independent data is in both families, and is set by hand."""
    source = Conjugate().requires_grad_(False)
    exact = make(source.model, init_loc_fn=init_to_value(values={"z": X / 2}), init_scale=0.5**0.5)
    whole = as_program((source.model, exact))
    whole.structure(X)
    largest = []
    for program in (handlers.detach_score(whole), whole):
        torch.manual_seed(0)
        whole.zero_grad()
        obj.elbo("monte_carlo").loss(program, X).backward()
        largest.append(max(p.grad.abs().max() for p in exact.parameters() if p.grad is not None))
    assert largest[0] < 1e-12  # a few roundings, and those of the scale's bijection
    assert largest[1] > 1e-2


def test_the_traced_step_gives_the_eager_values():
    values = []
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        source = Conjugate()
        program = handlers.detach_score(source)
        step = compile_step(obj.elbo(), program, torch.optim.SGD(source.parameters(), 0.01), mode=mode)
        torch.manual_seed(1)
        values.append(torch.stack([step(X) for _ in range(4)]))
    torch.testing.assert_close(*values)


def test_it_is_named_at_the_site_or_around_everything():
    class Named(Conjugate):
        def guide(self, x):
            with pyro.plate("data", ROWS):
                pyro.sample("z", self.posterior(), infer={"gradient": handlers.DetachScore()})

    named, source = Named(exact=True), Conjugate(exact=True)
    assert of_guide(gradients(named, named, calls=2)).abs().max() < 1e-13
    with handlers.DetachScore():
        assert of_guide(gradients(source, source, calls=2)).abs().max() < 1e-13


def test_without_gradients_nothing_changes():
    source, values = Conjugate(), []
    for program in (source, handlers.detach_score(source)):
        torch.manual_seed(4)
        values.append(obj.elbo().evaluate(program, X))
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


def test_what_it_cannot_serve_is_refused():
    with pytest.raises(ProgramError, match=r"'z': DetachScore serves terms that are sums.*mixes the particles.*elbo"):
        obj.iwae().loss(handlers.detach_score(Conjugate()), X, num_particles=2)
    with pytest.raises(ProgramError, match=r"'z': no closed-form divergence of Normal.*DetachScore.*kl\(method='auto'"):
        obj.elbo("closed_form").loss(handlers.detach_score(Conjugate()), X)
    with pytest.raises(OptionError, match=r"'z' is claimed by two.*DetachScore and Evolution"):
        obj.elbo().loss(handlers.evolution(handlers.detach_score(Conjugate())), X)

    def count(x):
        with pyro.plate("data", ROWS):
            pyro.sample("n", dist.Poisson(3.0))

    with pytest.raises(ProgramError, match=r"'n': DetachScore serves sites with rsample, got Poisson"):
        obj.elbo().loss(handlers.detach_score((count, count), sites="n"), X)
