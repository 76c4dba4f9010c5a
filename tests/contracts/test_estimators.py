"""What every unbiased gradient estimator owes: the enumerated gradient, on programs small enough to enumerate."""

import itertools
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import TruncatedPoisson
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers import Estimator, finite
from ppl_genmodels.handlers.later import REDRAWN
from ppl_genmodels.inference import compile_step

ROWS, CALLS = 3, 300
X = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.5, 2.0]])


class Enumerable(nn.Module):
    """A program whose exact objective is a sum over all joint values of its latent sites, datum by datum."""

    def exact(self):
        """The objective, every plate but the data's enumerated entry by entry."""
        total = 0.0
        for joint in itertools.product(*(self.support(name) for name in self.sites)):
            held = dict(zip(self.sites, joint, strict=True))
            guide = pyro.poutine.trace(pyro.poutine.condition(self.guide, held)).get_trace(X)
            model = pyro.poutine.trace(pyro.poutine.condition(self.model, held)).get_trace(X)
            log_q, log_p = (self.per_datum(trace) for trace in (guide, model))
            total = total + log_q.exp() * (log_p - log_q)
        return total.mean()

    def per_datum(self, trace):
        trace.compute_log_prob()
        nodes = (n for n in trace.nodes.values() if n["type"] == "sample" and not n["name"].startswith("_"))
        logs = [n["log_prob"] for n in nodes if isinstance(n["log_prob"], torch.Tensor) and n["log_prob"].dim()]
        return sum(log.reshape(-1, ROWS).sum(0) for log in logs)


class One(Enumerable):
    """One categorical site."""

    sites = ("k",)

    def __init__(self):
        super().__init__()
        self.logits, self.means = nn.Parameter(torch.randn(ROWS, 3)), nn.Parameter(torch.randn(3, 2))

    def support(self, name):
        return [torch.full((ROWS,), value) for value in range(3)]

    def guide(self, x):
        with pyro.plate("data", ROWS):
            pyro.sample("k", dist.Categorical(logits=self.logits))

    def model(self, x):
        with pyro.plate("data", ROWS):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            pyro.sample("x", dist.Normal(self.means[k], 1.0).to_event(1), obs=x)


class Two(Enumerable):
    """Two vectors of bits; the guide draws the second given the first, the model the first given the second."""

    sites = ("first", "second")

    def __init__(self):
        super().__init__()
        self.logits, self.link = nn.Parameter(torch.randn(ROWS, 2)), nn.Parameter(torch.randn(2, 2))
        self.prior, self.weight = nn.Parameter(torch.randn(2, 2)), nn.Parameter(torch.randn(2, 2))

    def support(self, name):
        return [torch.tensor(bits).expand(ROWS, 2) for bits in itertools.product((0.0, 1.0), repeat=2)]

    def guide(self, x):
        with pyro.plate("data", ROWS):
            first = pyro.sample("first", dist.Bernoulli(logits=self.logits).to_event(1))
            pyro.sample("second", dist.Bernoulli(logits=first @ self.link).to_event(1))

    def model(self, x):
        with pyro.plate("data", ROWS):
            second = pyro.sample("second", dist.Bernoulli(0.4).expand([ROWS, 2]).to_event(1))
            first = pyro.sample("first", dist.Bernoulli(logits=second @ self.prior).to_event(1))
            pyro.sample("x", dist.Normal((first + 0.5 * second) @ self.weight, 1.0).to_event(1), obs=x)


class Nested(Enumerable):
    """One-hot sites in a plate inside the plate of the data, under a bit for each datum."""

    sites = ("bit", "part")

    def __init__(self):
        super().__init__()
        self.bit, self.logits = nn.Parameter(torch.randn(ROWS)), nn.Parameter(torch.randn(2, ROWS, 2))
        self.shift, self.means = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2))

    def support(self, name):
        if name == "bit":
            return [torch.full((ROWS,), value) for value in (0.0, 1.0)]
        vertices = torch.eye(2)
        return [
            torch.stack([vertices[a].expand(ROWS, 2), vertices[b].expand(ROWS, 2)])
            for a, b in itertools.product(range(2), repeat=2)
        ]

    def guide(self, x):
        with pyro.plate("data", ROWS):
            bit = pyro.sample("bit", dist.Bernoulli(logits=self.bit))
            with pyro.plate("inner", 2):
                pyro.sample("part", dist.OneHotCategorical(logits=self.logits + bit.unsqueeze(-1) * self.shift))

    def model(self, x):
        with pyro.plate("data", ROWS):
            bit = pyro.sample("bit", dist.Bernoulli(0.3))
            with pyro.plate("inner", 2):
                part = pyro.sample("part", dist.OneHotCategorical(torch.tensor([0.6, 0.4])))
                pyro.sample("x", dist.Normal((part * self.means).sum(-1) + bit, 1.0), obs=x.T)


class Counts(Enumerable):
    """A count cut off above, and a second one that it is the total of."""

    sites = ("total", "part of total")

    def __init__(self):
        super().__init__()
        self.rate, self.logits = nn.Parameter(torch.rand(ROWS) + 0.5), nn.Parameter(torch.randn(ROWS))
        self.slope = nn.Parameter(torch.randn(()))

    def support(self, name):
        return [torch.full((ROWS,), float(value)) for value in range(4 if name == "total" else 3)]

    def guide(self, x):
        with pyro.plate("data", ROWS):
            total = pyro.sample("total", TruncatedPoisson(self.rate.exp(), high=3))
            pyro.sample("part of total", dist.Binomial(2, logits=self.logits + self.slope * total))

    def model(self, x):
        with pyro.plate("data", ROWS):
            total = pyro.sample("total", TruncatedPoisson(torch.tensor(1.5), high=3))
            part = pyro.sample("part of total", dist.Binomial(2, torch.tensor(0.4)))
            means = torch.stack([total - part, total], -1)
            pyro.sample("x", dist.Normal(means, 1.0).to_event(1), obs=x)


PROGRAMS = [One, Two, Nested, Counts]
ONE_ELEMENT = ("k", "bit", "total", "part of total")
ESTIMATORS = {
    "score function": lambda: handlers.ScoreFunction(baseline="none"),
    "score function, leave one out": handlers.ScoreFunction,
    "local expectation": handlers.LocalExpectation,
    "reparameterize and marginalize": handlers.ReparameterizeAndMarginalize,
    "score function, running mean": lambda: handlers.ScoreFunction(baseline="running_mean"),
    "score function, vimco": lambda: handlers.ScoreFunction(baseline="vimco"),
    "score function, learned": lambda: handlers.ScoreFunction(baseline=nn.Linear(2, 1)),
    "muprop": handlers.MuProp,
    "rebar": handlers.Rebar,
    "relax": handlers.Relax,
    "disarm": handlers.DisARM,
    "marginalize": lambda: handlers.Marginalize(lambda msg: msg["name"] in ONE_ELEMENT),
}
CANNOT_SERVE = {
    **{(name, Counts): "does not serve counts" for name in ("rebar", "relax", "muprop", "disarm")},
    ("rebar", One): "serves sites that can be relaxed, and the only site is categorical",
    ("muprop", One): "serves sites with a mean that costs can be taken at, and the only site is categorical",
    ("marginalize", Two): "serves sites with one element for each datum, and both have two",
}


def gradients(program, estimator, particles=1, calls=CALLS, objective=None):
    """Gradients of the objective, shape (calls, parameters)."""
    wrapped, parameters = as_program(program).wrap(estimator), list(program.parameters())
    found = []
    for _ in range(calls):
        loss = (objective or obj.elbo("monte_carlo")).loss(wrapped, X, num_particles=particles)
        found.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(-loss, parameters)]))
    return torch.stack(found)


def exact_gradient(program):
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(program.exact(), list(program.parameters()))])


def largest_error(program, estimator, particles=1):
    """The largest deviation of the mean gradient, in standard errors."""
    samples, exact = gradients(program, estimator, particles), exact_gradient(program)
    error = samples.std(0) / CALLS**0.5
    return ((samples.mean(0) - exact).abs() / (error + 1e-6)).max().item()


@pytest.mark.parametrize("make", PROGRAMS)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("particles", [1, 3])
def test_the_mean_is_the_enumerated_gradient(make, name, particles):
    if (name, make) in CANNOT_SERVE:
        pytest.skip(f"{name} {CANNOT_SERVE[name, make]}")
    torch.manual_seed(2)
    assert largest_error(make(), ESTIMATORS[name](), particles) < 4.5


class TwoCounts(Counts):
    """Both counts cut off above: a Binomial is not traced, as torch reads its total count."""

    def guide(self, x):
        with pyro.plate("data", ROWS):
            total = pyro.sample("total", TruncatedPoisson(self.rate.exp(), high=3))
            pyro.sample("part of total", TruncatedPoisson((self.logits + self.slope * total).exp(), high=2))

    def model(self, x):
        with pyro.plate("data", ROWS):
            total = pyro.sample("total", TruncatedPoisson(torch.tensor(1.5), high=3))
            part = pyro.sample("part of total", TruncatedPoisson(torch.tensor(0.7), high=2))
            pyro.sample("x", dist.Normal(torch.stack([total - part, total], -1), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("make", [One, Two, Nested, TwoCounts])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_traced_step_is_the_eager_one(name, make):
    """A step that cannot be traced warns, and warnings are errors."""
    if (name, Counts if make is TwoCounts else make) in CANNOT_SERVE:
        pytest.skip(f"{name} cannot serve its sites")
    found = []
    for mode in ("off", "trace"):
        torch.manual_seed(2)
        program = as_program(make()).wrap(ESTIMATORS[name]())
        program.structure(X)
        step = compile_step(obj.elbo(), program, torch.optim.SGD(program.parameters(), 0.01), mode, num_particles=2)
        torch.manual_seed(3)
        found.append(torch.stack([*(step(X) for _ in range(3)), *(p.detach().sum() for p in program.parameters())]))
    torch.testing.assert_close(*found)


class Without(Estimator):
    """No surrogate: the draw passes no gradient."""


class Doubled(handlers.ScoreFunction):
    def surrogate(self, site):
        return 2 * super().surrogate(site)


class OwnDraw(handlers.ScoreFunction):
    """A baseline that depends on the draw: the cost itself."""

    def surrogate(self, site):
        weighted = (site.log_prob * (site.cost - 0.5 * site.cost)).sum() / len(site.log_prob)
        return weighted - weighted.detach()


class Unweighted(handlers.ReparameterizeAndMarginalize):
    """Sums the scores of all values as if each were as likely."""

    def surrogate(self, site):
        flips = finite.flips_of(site)
        cost, _ = site.alternatives(flips.draws, REDRAWN)
        weighted = (flips.log_prob * flips.by_value(cost)).sum() / len(site.log_prob)
        return weighted - weighted.detach()


@pytest.mark.parametrize("make", PROGRAMS)
@pytest.mark.parametrize("wrong", [Without, Doubled, OwnDraw, Unweighted])
def test_wrong_estimators_are_caught(make, wrong):
    torch.manual_seed(2)
    assert largest_error(make(), wrong(), particles=3) > 6


BIASED = {
    "relaxed": handlers.GumbelSoftmax,
    "relaxed, priced as the discrete site": lambda: handlers.GumbelSoftmax(density="categorical"),
    "relaxed, hard": lambda: handlers.GumbelSoftmax(hard=True),
    "straight through": handlers.StraightThrough,
}


@pytest.mark.parametrize("make", [Two, Nested])
@pytest.mark.parametrize("name", BIASED)
def test_what_says_that_it_is_biased_is(name, make):
    torch.manual_seed(2)
    estimator = BIASED[name]()
    assert estimator.biased
    assert largest_error(make(), estimator, particles=100) > 6


def test_variances_are_ordered_as_published():
    """Tokui and Sato (2017): the score function's falls with a baseline, then by local expectation, then by RAM."""
    torch.manual_seed(2)
    program = Two()
    ordered = list(ESTIMATORS)[:4]
    variances = [gradients(program, ESTIMATORS[name]()).var(0).sum().item() for name in ordered]
    assert variances == sorted(variances, reverse=True)


def test_one_categorical_site_has_no_variance_left_by_local_expectation():
    """The sum over its own values is the exact gradient of the guide's parameters."""
    torch.manual_seed(2)
    program = One()
    samples = gradients(program, handlers.LocalExpectation(), calls=4, objective=obj.elbo())
    samples = samples[:, : program.logits.numel()]
    torch.testing.assert_close(samples, exact_gradient(program)[: program.logits.numel()].expand(4, -1))


def test_only_what_a_draw_has_an_influence_on_is_charged():
    """A site that nothing depends on pays its own divergence alone, not the likelihood."""

    class Apart(One):
        def guide(self, x):
            with pyro.plate("data", ROWS):
                pyro.sample("k", dist.Categorical(logits=self.logits))
                pyro.sample("idle", dist.Bernoulli(logits=self.logits[:, 0]))

        def model(self, x):
            with pyro.plate("data", ROWS):
                k = pyro.sample("k", dist.Categorical(logits=torch.zeros(3)))
                pyro.sample("idle", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(self.means[k], 1.0).to_event(1), obs=100 + x)

    costs = {}

    class Watching(handlers.ScoreFunction):
        def surrogate(self, site):
            costs[site.name] = site.cost
            return super().surrogate(site)

    gradients(Apart(), Watching(), calls=1)
    assert costs["idle"].abs().max() < 2.0
    assert costs["k"].abs().max() > 1000.0


def test_a_cost_that_numpy_computes_is_charged():
    """What leaves the tensors is followed: else the likelihood would be free, and the gradient wrong in silence."""

    class BlackBox(One):
        def __init__(self):
            super().__init__()
            self.means = nn.Parameter(self.means.detach(), requires_grad=False)

        def parameters(self, recurse=True):
            return iter([self.logits])

        def model(self, x):
            with pyro.plate("data", ROWS):
                k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
                means = torch.from_numpy(self.means.detach().numpy()[k.numpy()])
                pyro.sample("x", dist.Normal(means, 1.0).to_event(1), obs=x)

    torch.manual_seed(2)
    assert largest_error(BlackBox(), handlers.ScoreFunction()) < 4.5


def test_an_estimator_may_stand_around_the_objective():
    torch.manual_seed(2)
    program = One()
    found = []
    for wrapped in (program, as_program(program).wrap(handlers.LocalExpectation())):
        torch.manual_seed(3)
        with handlers.LocalExpectation() if wrapped is program else nullcontext():
            found.append(torch.autograd.grad(obj.elbo().loss(wrapped, X), program.logits)[0])
    assert torch.equal(*found)


def test_an_estimator_may_be_named_at_the_site():
    class Named(Two):
        def guide(self, x):
            ram = handlers.ReparameterizeAndMarginalize()
            with pyro.plate("data", ROWS):
                first = pyro.sample("first", dist.Bernoulli(logits=self.logits).to_event(1), infer={"gradient": ram})
                pyro.sample("second", dist.Bernoulli(logits=first @ self.link).to_event(1), infer={"gradient": ram})

    torch.manual_seed(2)
    named, plain = Named(), Two()
    plain.load_state_dict(named.state_dict())
    parameters = [list(program.parameters()) for program in (named, plain)]
    torch.manual_seed(3)
    one = torch.autograd.grad(obj.elbo().loss(named, X), parameters[0])
    torch.manual_seed(3)
    wrapped = as_program(plain).wrap(handlers.ReparameterizeAndMarginalize())
    other = torch.autograd.grad(obj.elbo().loss(wrapped, X), parameters[1])
    assert all(map(torch.equal, one, other))


def test_two_estimators_of_one_site_are_refused():
    program = as_program(One()).wrap(handlers.ScoreFunction("k")).wrap(handlers.LocalExpectation("k"))
    with pytest.raises(OptionError, match=r"'k' is claimed by two.*ScoreFunction and LocalExpectation"):
        obj.elbo().loss(program, X)


def test_a_site_that_never_appears_is_refused():
    program = as_program(One()).wrap(handlers.ScoreFunction("kk"))
    with pytest.raises(UnknownNameError, match=r"'kk'.*'k'"):
        obj.elbo().loss(program, X)


def test_a_distribution_that_cannot_be_served_is_refused_with_those_that_can():
    def program(x):
        with pyro.plate("data", ROWS):
            pyro.sample("n", dist.Poisson(3.0))

    wrapped = as_program((program, program)).wrap(handlers.LocalExpectation("n"))
    with pytest.raises(ProgramError, match=r"'n'.*LocalExpectation serves Bernoulli.*got Poisson.*ScoreFunction"):
        obj.elbo().loss(wrapped, X)


def test_an_objective_that_mixes_particles_is_refused_where_it_cannot_be_served():
    program = as_program(One()).wrap(handlers.LocalExpectation("k"))
    with pytest.raises(ProgramError, match=r"'k': LocalExpectation serves terms that are sums.*score_function"):
        obj.iwae().loss(program, X, num_particles=2)
