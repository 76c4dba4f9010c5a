"""Straight through: its draws are the site's own, its gradient is exact for linear costs alone."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

import ppl_genmodels as ppl
from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers import StraightThrough, straight_through

LOGITS = torch.tensor([[0.3, -1.0, 0.8], [2.0, 0.0, -2.0], [0.0, 0.1, 0.2], [-1.0, 1.0, 0.5]])
ROWS = len(LOGITS)
X = torch.tensor([0.3, -1.0, 1.2, 0.5])


def one_hot(logits):
    return dist.OneHotCategorical(logits=logits)


def bits(logits):
    return dist.Bernoulli(logits=logits).to_event(1)


class Small(nn.Module):
    """One site for each row and a cost that is linear or quadratic in it."""

    def __init__(self, family, linear=False, logits=LOGITS):
        super().__init__()
        self.family, self.linear, self.logits = family, linear, nn.Parameter(logits.clone())
        self.register_buffer("means", torch.tensor([-1.0, 0.5, 2.0]))

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", self.family(self.logits[: len(x)]))

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", self.family(torch.tensor([0.5, -0.5, 0.0])))
            pyro.factor("cost", self.cost(y, x))

    def cost(self, y, x):
        found = (y * self.means).sum(-1)
        return found if self.linear else -(x - found).square()

    def exact_gradient(self):
        """By enumeration, the divergence in closed form."""
        support = torch.eye(3) if self.family is one_hot else torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        fn, prior = self.family(self.logits), self.family(torch.tensor([0.5, -0.5, 0.0]))
        expected = sum(fn.log_prob(y.expand(ROWS, 3)).exp() * self.cost(y, X) for y in support)
        objective = (expected - kl_divergence(fn, prior.expand((ROWS,)))).mean()
        return torch.autograd.grad(objective, self.logits)[0]


def gradients(program, calls, particles=500):
    wrapped = straight_through(program)
    losses = (obj.elbo().loss(wrapped, X, num_particles=particles) for _ in range(calls))
    return torch.stack([torch.autograd.grad(-loss, program.logits)[0] for loss in losses])


@pytest.mark.parametrize("family", [one_hot, bits])
def test_draws_are_the_sites_own_and_are_priced_so(family):
    torch.manual_seed(0)
    run = obj.Run(as_program(straight_through(Small(family))), (X,), {}, 5)
    drawn = run.guide.nodes["y"]["value"]
    torch.manual_seed(0)
    assert torch.equal(drawn, family(LOGITS).expand((5, ROWS)).sample())
    torch.testing.assert_close(run.site_log_prob(run.guide.nodes["y"]), family(LOGITS).log_prob(drawn))
    prior = family(torch.tensor([0.5, -0.5, 0.0]))
    torch.testing.assert_close(run.site_log_prob(run.model.nodes["y"]), prior.log_prob(drawn))


@pytest.mark.parametrize("family", [one_hot, bits])
def test_the_gradient_of_a_linear_cost_is_exact(family):
    """Without variance, so that one draw shows it."""
    torch.manual_seed(0)
    program = Small(family, linear=True)
    torch.testing.assert_close(gradients(program, calls=1, particles=1)[0], program.exact_gradient())


@pytest.mark.parametrize("family", [one_hot, bits])
def test_the_bias_is_detected_for_any_other_cost(family):
    torch.manual_seed(0)
    program, calls = Small(family), 100
    samples = gradients(program, calls)
    error = (samples.mean(0) - program.exact_gradient()).abs()
    assert (error / (samples.std(0) / calls**0.5)).max() > 6
    assert StraightThrough.biased


@pytest.mark.parametrize("family", [one_hot, bits])
def test_nothing_overflows_at_extremes(family):
    torch.manual_seed(0)
    program = Small(family, logits=50 * LOGITS.sign())
    with pyro.validation_enabled(True):
        loss = obj.elbo("monte_carlo").loss(straight_through(program), X, num_particles=100)
        loss.backward()
    assert loss.isfinite()
    assert program.logits.grad.isfinite().all()


def test_where_no_gradient_is_taken_the_site_is_left_as_it_is():
    with torch.no_grad(), StraightThrough(), pyro.poutine.trace() as traced:
        pyro.sample("y", dist.Bernoulli(0.3))
    assert type(traced.trace.nodes["y"]["fn"]) is dist.Bernoulli


@pytest.mark.own_compile
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("family", [one_hot, bits])
def test_a_traced_fit_gives_the_eager_numbers(family):
    def norms(mode):
        fitted = ppl.fit(
            straight_through(Small(family)), X, steps=10, batch_size=ROWS, compile=mode, seed=3, progress=False
        )
        return fitted.history["gradient_norm"].tolist()

    assert norms("trace") == pytest.approx(norms("off"), rel=1e-5)


def test_a_site_has_one_estimator():
    program = handlers.gumbel_softmax(straight_through(Small(one_hot), sites="y"), sites="y")
    with pytest.raises(OptionError, match="claimed by two gradient estimators, StraightThrough and GumbelSoftmax"):
        obj.elbo().loss(program, X)
