"""MuProp and learned baselines beyond the contract: what they save, how they are trained, what they refuse."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import as_program, fit, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference import compile_step

ROWS = 6


class Layers(nn.Module):
    """Two layers of bits below Gaussian data."""

    def __init__(self, last=dist.Bernoulli):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.last = last

    def guide(self, x):
        with pyro.plate("data", len(x)):
            first = pyro.sample("first", dist.Bernoulli(logits=self.first(x)).to_event(1))
            if self.last is dist.Categorical:
                pyro.sample("second", dist.Categorical(logits=self.second(first)))
            else:
                pyro.sample("second", dist.Bernoulli(logits=self.second(first)).to_event(1))

    def model(self, x):
        with pyro.plate("data", len(x)):
            first = pyro.sample("first", dist.Bernoulli(0.5).expand([4]).to_event(1))
            if self.last is dist.Categorical:
                pyro.sample("second", dist.Categorical(torch.ones(4) / 4))
                second = 0.0
            else:
                second = pyro.sample("second", dist.Bernoulli(0.5).expand([4]).to_event(1))
            pyro.sample("x", dist.Normal(self.out(first + second), 0.3).to_event(1), obs=x)


def variance(program, estimator, x, calls=200):
    wrapped, parameters = as_program(program).wrap(estimator), list(program.first.parameters())
    losses = (obj.elbo().loss(wrapped, x) for _ in range(calls))
    found = [torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)]) for loss in losses]
    return torch.stack(found).var(0).sum().item()


def test_the_expansion_lowers_the_variance():
    torch.manual_seed(0)
    program, x = Layers(), torch.randn(ROWS, 3)
    assert variance(program, handlers.MuProp(), x) < 0.5 * variance(program, handlers.ScoreFunction(), x)


def test_a_linear_cost_leaves_no_variance():
    """Where the cost is linear in the bits the expansion is the cost, and the slope's part is the exact gradient."""

    class Straight(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.randn(ROWS, 4))

        def guide(self, x):
            with pyro.plate("data", ROWS):
                pyro.sample("b", dist.Bernoulli(logits=self.logits).to_event(1))

        def model(self, x):
            with pyro.plate("data", ROWS):
                b = pyro.sample("b", dist.Bernoulli(0.5).expand([4]).to_event(1))
                pyro.factor("cost", (b * x).sum(-1))

    torch.manual_seed(1)
    program, x = Straight(), torch.randn(ROWS, 4)
    wrapped = as_program(program).wrap(handlers.MuProp())
    (found,) = torch.autograd.grad(-obj.log_lik().loss(wrapped, x), program.logits)
    probs = program.logits.sigmoid()
    torch.testing.assert_close(found, (x * probs * (1 - probs)).detach() / ROWS)


@pytest.mark.parametrize("estimator", [handlers.MuProp, lambda: handlers.ScoreFunction(baseline=nn.Linear(3, 1))])
def test_a_traced_step_is_the_eager_one(estimator):
    found = []
    for mode in ("off", "trace"):
        torch.manual_seed(2)
        program = as_program(Layers()).wrap(estimator())
        step = compile_step(obj.elbo(), program, torch.optim.SGD(program.parameters(), 0.1), mode)
        x = torch.randn(ROWS, 3)
        torch.manual_seed(3)
        found.append([step(x) for _ in range(4)])
    torch.testing.assert_close(*map(torch.stack, found))


def test_a_later_site_without_a_mean_is_refused():
    program = as_program(Layers(dist.Categorical)).wrap(handlers.MuProp("first"))
    with pytest.raises(ProgramError, match=r"'second': Categorical has no mean.*ScoreFunction"):
        obj.elbo().loss(program, torch.zeros(ROWS, 3))


def test_a_learned_baseline_learns_what_each_datum_costs():
    """Two kinds of data of which one costs far more: a running mean cannot tell them apart."""
    torch.manual_seed(4)
    x = torch.cat([torch.zeros(32, 3), 3 * torch.ones(32, 3)])
    learned = handlers.ScoreFunction(baseline=nn.Linear(3, 1))
    model = Layers()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    program = as_program(model).wrap(learned)
    obj.elbo().loss(program, x)  # a first look at the program makes the networks
    optimizer = torch.optim.Adam(learned.state.parameters(), 0.3)
    step = compile_step(obj.elbo(), program, optimizer, "off")
    for _ in range(300):
        step(x)
    cheap, dear = learned.state.networks["first"](x[[0, -1]]).squeeze(-1)
    per_datum = sum(obj.elbo().evaluate(model, x, num_particles=100)[name] * sign for name, sign in SIGNS)
    asked = (per_datum[:32].mean() - per_datum[32:].mean()).item()
    assert (cheap - dear).item() == pytest.approx(asked, rel=0.2)


SIGNS = [("log_lik", 1.0), ("kl", -1.0)]


def test_fit_trains_the_baseline_with_the_program():
    learned = handlers.ScoreFunction(baseline=nn.Linear(3, 1))
    program = as_program(Layers()).wrap(learned)
    obj.elbo().loss(program, torch.zeros(ROWS, 3))
    before = [network.weight.detach().clone() for network in learned.state.networks.values()]
    fit(program, torch.randn(32, 3), steps=5, batch_size=8, progress=False)
    after = [network.weight for network in learned.state.networks.values()]
    assert len(before) == 2  # one for each site
    assert not any(map(torch.equal, before, after))
    assert set(program.state_dict()) - set(program.weights())  # saved programs leave out what serves training alone


@pytest.mark.parametrize(
    ("network", "message"),
    [(nn.Linear(5, 1), r"'first'.*\(6, 3\).*3 inputs and 1 output"), (nn.Linear(3, 2), r"gives \(6, 2\).*\(6, 1\)")],
)
def test_a_network_of_other_sizes_is_refused(network, message):
    program = as_program(Layers()).wrap(handlers.ScoreFunction("first", baseline=network))
    with pytest.raises(ProgramError, match=message):
        obj.elbo().loss(program, torch.zeros(ROWS, 3))


def test_an_unknown_baseline_is_refused():
    with pytest.raises(OptionError, match=r"baseline is one of .*'vimco' or a module.*got 'best'"):
        handlers.ScoreFunction(baseline="best")


def test_a_running_mean_serves_batches_of_other_sizes():
    """It is kept in nats of a datum: what a full batch taught is the mean cost of a smaller one too."""
    torch.manual_seed(0)
    kept = handlers.ScoreFunction(baseline="running_mean")
    program = as_program(Layers()).wrap(kept)
    for _ in range(60):
        obj.elbo().loss(program, torch.zeros(60, 3))
    left = []

    class Watching(handlers.ScoreFunction):
        def _centered(self, site):
            cost, mixed = super()._centered(site)
            left.append((cost.mean() / site.cost.mean()).item())
            return cost, mixed

    kept.__class__ = Watching
    obj.elbo().loss(program, torch.zeros(6, 3), num_particles=100)
    assert len(left) == 2  # sites
    assert all(abs(each) < 0.2 for each in left)
