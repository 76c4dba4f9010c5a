"""Marginalization: value and gradient are those of Pyro's parallel enumeration."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import ProgramError

X = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.5, 2.0], [0.1, 0.1]])


class Mixture(nn.Module):
    """One class for each datum, and maybe a continuous latent that its law depends on."""

    def __init__(self, one_hot, continuous):
        super().__init__()
        self.classes = dist.OneHotCategorical if one_hot else dist.Categorical
        self.one_hot, self.continuous = one_hot, continuous
        self.encoder, self.means = nn.Linear(2, 3), nn.Parameter(torch.randn(3, 2))
        self.locs = nn.Parameter(torch.randn(3))

    def of_class(self, table, k):
        return k @ table if self.one_hot else table[k]

    def guide(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", self.classes(logits=self.encoder(x)))
            if self.continuous:
                pyro.sample("z", dist.Normal(self.of_class(self.locs, k), 0.5))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", self.classes(torch.tensor([0.2, 0.3, 0.5])))
            mean = self.of_class(self.means, k)
            if self.continuous:
                mean = mean + pyro.sample("z", dist.Normal(0.0, 1.0)).unsqueeze(-1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


def value_and_gradient(loss, program):
    return loss.detach(), torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(program.parameters()))])


def enumerated(program, x, particles=1):
    program = as_program(program)
    pyros = TraceEnum_ELBO(max_plate_nesting=1, num_particles=particles, vectorize_particles=True)
    with program.scope():
        loss = pyros.differentiable_loss(program.model, config_enumerate(program.guide, "parallel"), x) / len(x)
    return loss


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("objective", [obj.elbo(), obj.elbo("monte_carlo")])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("particles", [1, 3])
def test_value_and_gradient_are_those_of_enumeration(objective, one_hot, particles):
    torch.manual_seed(0)
    program, x = Mixture(one_hot, continuous=False), X.double()
    program.locs.requires_grad_(False)
    trained = nn.ModuleDict({"encoder": program.encoder})
    trained.means = program.means
    expected = value_and_gradient(enumerated(program, x), trained)
    loss = objective.loss(handlers.marginalize(program), x, num_particles=particles)
    torch.testing.assert_close(value_and_gradient(loss, trained), expected, rtol=1e-10, atol=1e-12)


def test_with_a_continuous_latent_the_means_agree():
    """Value and gradient over many draws of the continuous latent, in standard errors of the difference."""
    torch.manual_seed(0)
    program, calls = Mixture(one_hot=False, continuous=True), 300
    wrapped = handlers.marginalize(program, sites="k")
    found, expected = [], []
    for _ in range(calls):
        for loss, kept in ((obj.elbo("monte_carlo").loss(wrapped, X), found), (enumerated(program, X), expected)):
            value, gradient = value_and_gradient(loss, program)
            kept.append(torch.cat([value.reshape(1), gradient]))
    found, expected = torch.stack(found), torch.stack(expected)
    error = ((found.var(0) + expected.var(0)) / calls).sqrt()
    assert ((found.mean(0) - expected.mean(0)).abs() < 4.5 * error + 1e-6).all()


def test_terms_shown_are_those_of_the_draw_and_their_mean_is_the_value():
    torch.manual_seed(0)
    program = handlers.marginalize(Mixture(one_hot=False, continuous=False))
    rows = []
    for _ in range(1000):
        loss, terms = obj.elbo().assess(obj.Run(program, (X,), {}))
        rows.append(torch.stack([loss.detach(), terms["kl"] - terms["log_lik"]]))
    losses, drawn = torch.stack(rows, 1)
    assert losses.std() < 1e-5 * losses.abs().mean()
    assert drawn.std() > 1e-2
    assert (drawn.mean() - losses.mean()).abs() < 4.5 * drawn.std() / 1000**0.5


def test_several_elements_are_refused():
    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(0.3 * torch.ones(len(x), 2)).to_event(1))

    with pytest.raises(ProgramError, match=r"'b': Marginalize.*one element.*got 2 elements.*LocalExpectation"):
        obj.elbo().loss(handlers.marginalize((program, program)), X)


def test_an_objective_that_mixes_particles_is_refused():
    program = handlers.marginalize(Mixture(one_hot=False, continuous=False))
    with pytest.raises(ProgramError, match=r"'k': Marginalize serves terms that are sums.*score_function"):
        obj.iwae().loss(program, X, num_particles=2)


def test_a_site_that_does_not_depend_on_it_keeps_its_draw():
    """Drawn anew, a global site's noise would count once for every row."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(100))

        def guide(self, x):
            with pyro.plate("data", 100):
                pyro.sample("y", dist.Bernoulli(logits=self.logits))
            pyro.sample("shift", dist.Normal(0.0, 1.0))

        def model(self, x):
            shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
            with pyro.plate("data", 100):
                y = pyro.sample("y", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(y + shift, 0.3), obs=x)

    torch.manual_seed(0)
    program, x = Shared(), torch.randn(100)
    programs = (program, as_program(program).wrap(handlers.Marginalize("y")))
    plain, summed = (torch.stack([obj.elbo().loss(each, x).detach() for _ in range(200)]).std() for each in programs)
    assert summed < 1.5 * plain
