"""DisARM: the pair of draws is the antithetic one, and the difference of their costs has little variance."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.disarm import opposite
from ppl_genmodels.handlers.later import KEPT

ROWS, BITS = 3, 2
X = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.5, 2.0]])


@pytest.mark.parametrize("logit", [-3.0, -0.4, 0.0, 0.4, 3.0])
def test_the_opposite_is_made_by_one_less_the_noise(logit):
    """Frequencies of both bits beside those of bits made from the noise itself, known in closed form."""
    draws, logits = 100_000, torch.tensor(logit)
    torch.manual_seed(0)
    one = torch.bernoulli(logits.sigmoid().expand(draws))
    other = opposite(one, logits)
    p = logits.sigmoid()
    unequal, both = torch.minimum(p, 1 - p), (2 * p - 1).clamp(min=0.0)
    for found, exact in [(one * (1 - other), unequal), ((1 - one) * other, unequal), (one * other, both)]:
        error = (exact * (1 - exact) / draws).sqrt()
        assert (found.mean() - exact).abs() <= 4.5 * error + 1e-7


def test_extreme_logits_give_finite_gradients():
    logits = nn.Parameter(torch.tensor([-200.0, -50.0, 50.0, 200.0]))

    def program(x):
        with pyro.plate("data", 4):
            pyro.sample("b", dist.Bernoulli(logits=logits))

    def model(x):
        with pyro.plate("data", 4):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    obj.elbo().loss(handlers.disarm((model, program)), torch.zeros(4)).backward()
    assert logits.grad.isfinite().all()


class Chain(nn.Module):
    """Bits that the second bits and the data depend on."""

    def __init__(self):
        super().__init__()
        self.logits, self.link = nn.Parameter(torch.randn(ROWS, BITS)), nn.Parameter(3 * torch.randn(BITS, BITS))
        self.weight = 2 * torch.eye(BITS)

    def guide(self, x):
        with pyro.plate("data", ROWS):
            first = pyro.sample("first", dist.Bernoulli(logits=self.logits).to_event(1))
            pyro.sample("second", dist.Bernoulli(logits=first @ self.link).to_event(1))

    def model(self, x):
        with pyro.plate("data", ROWS):
            first = pyro.sample("first", dist.Bernoulli(0.5).expand([ROWS, BITS]).to_event(1))
            second = pyro.sample("second", dist.Bernoulli(0.5).expand([ROWS, BITS]).to_event(1))
            pyro.sample("x", dist.Normal((first + second) @ self.weight, 1.0).to_event(1), obs=x)


def gradients(program, estimator, calls):
    wrapped, parameter = handlers.score_function(program, sites="second"), program.logits
    wrapped = wrapped.wrap(estimator)
    losses = (obj.elbo("monte_carlo").loss(wrapped, X, num_particles=20) for _ in range(calls))
    return torch.stack([torch.autograd.grad(loss, parameter)[0] for loss in losses])


class Kept(handlers.DisARM):
    """Wrong: the second bits are those of the draw for its opposite too."""

    def surrogate(self, site):
        alternatives = site.alternatives
        site.alternatives = lambda draws, later: alternatives(draws, KEPT)
        return super().surrogate(site)


def test_later_draws_follow_both_of_the_pair():
    """Against the sum over the values of each bit with later draws made anew; keeping them is caught."""
    torch.manual_seed(3)
    program, calls = Chain(), 100
    exact, right, wrong = (
        gradients(program, each("first"), calls)
        for each in (handlers.ReparameterizeAndMarginalize, handlers.DisARM, Kept)
    )

    def largest(samples):
        error = ((samples.var(0) + exact.var(0)) / calls).sqrt()
        return ((samples.mean(0) - exact.mean(0)).abs() / error).max()

    assert largest(right) < 4.5
    assert largest(wrong) > 6


def test_variance_is_below_the_score_function():
    torch.manual_seed(3)
    program = Chain()
    plain = gradients(program, handlers.ScoreFunction("first", baseline="none"), 60).var(0).sum()
    assert gradients(program, handlers.DisARM("first"), 60).var(0).sum() < plain


def test_other_sites_are_refused():
    def program(x):
        with pyro.plate("data", ROWS):
            pyro.sample("k", dist.Binomial(2, torch.ones(ROWS) / 3))

    with pytest.raises(ProgramError, match=r"'k'.*DisARM serves Bernoulli.*got Binomial.*LocalExpectation"):
        obj.elbo().loss(handlers.disarm((program, program), sites="k"), X)
