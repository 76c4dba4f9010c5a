"""What unbiased estimators of continuous sites owe: the exact gradient, on Gaussian programs of quadratic cost."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj

ROWS, CALLS = 3, 200
X = torch.tensor([0.3, -1.0, 2.0])
NODES, WEIGHTS = (torch.tensor(each).float() for each in np.polynomial.hermite_e.hermegauss(3))


class Quadratic(nn.Module):
    """A program whose cost is quadratic in standard Normal noise: three nodes of Gauss and Hermite are exact."""

    def exact(self):
        """The objective, the noise of each site enumerated over the nodes."""
        total = 0.0
        for joint in itertools.product(range(3), repeat=len(self.sites)):
            held, weight = {}, 1.0
            for name, node in zip(self.sites, joint, strict=True):
                trace = pyro.poutine.trace(pyro.poutine.condition(self.guide, held)).get_trace(X)
                fn = trace.nodes[name]["fn"]
                held[name] = fn.mean + fn.variance.sqrt() * NODES[node]
                weight = weight * WEIGHTS[node] / WEIGHTS.sum()
            guide = pyro.poutine.trace(pyro.poutine.condition(self.guide, held)).get_trace(X)
            model = pyro.poutine.trace(pyro.poutine.condition(self.model, held)).get_trace(X)
            total = total + weight * (model.log_prob_sum() - guide.log_prob_sum())
        return total / ROWS


class One(Quadratic):
    """One number for each datum."""

    sites = ("z",)

    def __init__(self):
        super().__init__()
        self.loc, self.raw = nn.Parameter(torch.randn(ROWS)), nn.Parameter(0.3 * torch.randn(ROWS))
        self.prior = nn.Parameter(torch.randn(()))

    def guide(self, x):
        with pyro.plate("data", ROWS):
            pyro.sample("z", dist.Normal(self.loc, self.raw.exp()))

    def model(self, x):
        with pyro.plate("data", ROWS):
            z = pyro.sample("z", dist.Normal(self.prior, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class Chain(Quadratic):
    """Two numbers; the guide draws the second given the first, the model the first given the second."""

    sites = ("first", "second")

    def __init__(self):
        super().__init__()
        self.loc, self.link = nn.Parameter(torch.randn(ROWS)), nn.Parameter(torch.tensor(0.4))
        self.raw, self.prior = nn.Parameter(torch.tensor([-0.3, 0.2])), nn.Parameter(torch.tensor(0.5))

    def guide(self, x):
        with pyro.plate("data", ROWS):
            first = pyro.sample("first", dist.Normal(self.loc, self.raw[0].exp()))
            pyro.sample("second", dist.Normal(self.link * first, self.raw[1].exp()))

    def model(self, x):
        with pyro.plate("data", ROWS):
            second = pyro.sample("second", dist.Normal(0.0, 1.0))
            first = pyro.sample("first", dist.Normal(self.prior * second, 1.0))
            pyro.sample("x", dist.Normal(first + second, 1.0), obs=x)


class Nested(Quadratic):
    """A number for all data, and two for each in a plate inside the plate of the data."""

    sites = ("w", "z")

    def __init__(self):
        super().__init__()
        self.shared, self.loc = nn.Parameter(torch.randn(())), nn.Parameter(torch.randn(2, ROWS))
        self.raw, self.prior = nn.Parameter(torch.tensor([-0.3, 0.2])), nn.Parameter(torch.tensor(0.5))

    def guide(self, x):
        w = pyro.sample("w", dist.Normal(self.shared, self.raw[0].exp()))
        with pyro.plate("data", ROWS), pyro.plate("inner", 2):
            pyro.sample("z", dist.Normal(self.loc + 0.3 * w, self.raw[1].exp()))

    def model(self, x):
        w = pyro.sample("w", dist.Normal(self.prior, 1.0))
        with pyro.plate("data", ROWS), pyro.plate("inner", 2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + w, 1.0), obs=x.expand(2, ROWS))


PROGRAMS = [One, Chain, Nested]
ESTIMATORS = {
    "score function": handlers.ScoreFunction,
    "score function, no baseline": lambda: handlers.ScoreFunction(baseline="none"),
    "evolution": handlers.Evolution,
    "evolution, two pairs": lambda: handlers.Evolution(pairs=2),
    "detach score": handlers.DetachScore,
    "evolution of the first, detach score of the second": lambda: (
        handlers.Evolution(lambda msg: msg["name"] in ("z", "first")),
        handlers.DetachScore(lambda msg: msg["name"] in ("w", "second")),
    ),
}


def largest_error(source, estimators, particles):
    """The largest deviation of the mean gradient of the bound by Monte Carlo, in standard errors."""
    program, parameters = as_program(source), list(source.parameters())
    for estimator in estimators if isinstance(estimators, tuple) else (estimators,):
        program = program.wrap(estimator)
    losses = (obj.elbo("monte_carlo").loss(program, X, num_particles=particles) for _ in range(CALLS))
    samples = torch.stack(
        [torch.cat([g.reshape(-1) for g in torch.autograd.grad(-loss, parameters)]) for loss in losses]
    )
    exact = torch.cat([g.reshape(-1) for g in torch.autograd.grad(source.exact(), parameters)])
    return ((samples.mean(0) - exact).abs() / (samples.std(0) / CALLS**0.5 + 1e-6)).max()


@pytest.mark.parametrize("make", PROGRAMS)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("particles", [1, 3])
def test_the_mean_is_the_exact_gradient(make, name, particles):
    torch.manual_seed(2)
    if name.startswith("score"):
        particles *= 20  # the cost times the score has long tails, of which a mean of few is far from normal
    assert largest_error(make(), ESTIMATORS[name](), particles) < 4.5


class Uncut(handlers.Evolution):
    """The pathwise gradient passes too."""

    def transform(self, msg):
        pass


class UncutScore(handlers.ScoreFunction):
    """The pathwise gradient passes beside the score."""

    def __init__(self):
        super().__init__(baseline="none")

    def transform(self, msg):
        pass


class Unmirrored(handlers.Evolution):
    """Each draw's score is weighted by what its mirror costs."""

    def surrogate(self, site):
        alternatives = site.alternatives
        site.alternatives = lambda draws, later: (alternatives(draws, later)[0].flip(0), None)
        return super().surrogate(site)


@pytest.mark.parametrize("make", PROGRAMS)
@pytest.mark.parametrize("wrong", [Uncut, UncutScore, Unmirrored])
def test_wrong_estimators_are_caught(make, wrong):
    torch.manual_seed(2)
    assert largest_error(make(), wrong(), particles=3) > 6
