"""Discrete sites: the mean of the score-function gradient is the enumerated one, whatever the baseline."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import Program, as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.objectives.evidence import log_weight as log_weights

ROWS, CLASSES = 3, 4


class Mixture(nn.Module):
    """y is categorical, b a Bernoulli that depends on it; x is observed. Everything can be enumerated."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.logits = nn.Parameter(torch.randn(ROWS, CLASSES))
        self.switch = nn.Parameter(torch.randn(CLASSES))
        self.means = nn.Parameter(torch.randn(2, CLASSES))

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=torch.zeros(CLASSES)))
            b = pyro.sample("b", dist.Bernoulli(torch.tensor(0.4)))
            pyro.sample("x", dist.Normal(self.means[b.long(), y], 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=self.logits))
            pyro.sample("b", dist.Bernoulli(logits=self.switch[y]))

    def exact(self, x):
        """The ELBO by enumeration, the mean over data."""
        log_y, total = self.logits.log_softmax(-1), 0.0
        for y in range(CLASSES):
            for b in (0.0, 1.0):
                log_b = dist.Bernoulli(logits=self.switch[y]).log_prob(torch.tensor(b))
                log_q = log_y[:, y] + log_b
                prior = -torch.log(torch.tensor(float(CLASSES))) + dist.Bernoulli(0.4).log_prob(torch.tensor(b))
                log_p = prior + dist.Normal(self.means[int(b), y], 1.0).log_prob(x)
                total = total + log_q.exp() * (log_p - log_q)
        return total.mean()


X = torch.tensor([0.5, -1.0, 2.0])


def gradients(program, objective, particles, draws):
    """Gradients of independent losses, shape (draws, parameters)."""
    parameters = list(program.parameters())
    rows = []
    for _ in range(draws):
        loss = -objective.loss(program, X, num_particles=particles)
        rows.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def z_scores(program, objective, particles, draws):
    exact = torch.autograd.grad(program.exact(X), list(program.parameters()))
    exact = torch.cat([g.reshape(-1) for g in exact])
    samples = gradients(program, objective, particles, draws)
    error = samples.std(0) / draws**0.5
    return ((samples.mean(0) - exact) / error.clamp(min=1e-12))[error > 1e-12]


@pytest.mark.parametrize("objective", [obj.elbo(), obj.elbo("monte_carlo")])
@pytest.mark.parametrize(("particles", "draws"), [(1, 1200), (4, 600)])
def test_gradient_is_unbiased(objective, particles, draws):
    torch.manual_seed(1)
    assert z_scores(Mixture(), objective, particles, draws).abs().max() < 4.5


def test_a_gradient_without_the_surrogate_is_caught(monkeypatch):
    monkeypatch.setattr("ppl_genmodels.objectives.objective.surrogate", lambda *_: torch.zeros(()))
    torch.manual_seed(1)
    assert z_scores(Mixture(), obj.elbo(), 4, 500).abs().max() > 8


@pytest.mark.parametrize("particles", [1, 4])
def test_baseline_lowers_the_variance(particles):
    torch.manual_seed(1)
    with_baseline = gradients(Mixture(), obj.elbo(), particles, 300).var(0).sum()
    without = gradients(handlers.score_function(Mixture(), baseline="none"), obj.elbo(), particles, 300).var(0).sum()
    assert with_baseline < without


BASELINES = ["none", "leave_one_out", "running_mean", "vimco"]


@pytest.mark.parametrize("baseline", BASELINES)
def test_importance_weighted_gradient_is_unbiased(baseline):
    """The bound with two particles, enumerated over all pairs of joint states."""
    torch.manual_seed(1)
    program, draws = Mixture(), 1000
    states = [(y, b) for y in range(CLASSES) for b in (0.0, 1.0)]

    def log_joint(y, b):
        log_b = dist.Bernoulli(logits=program.switch[y]).log_prob(torch.tensor(b))
        log_q = program.logits.log_softmax(-1)[:, y] + log_b
        prior = -torch.log(torch.tensor(float(CLASSES))) + dist.Bernoulli(0.4).log_prob(torch.tensor(b))
        return log_q, prior + dist.Normal(program.means[int(b), y], 1.0).log_prob(X) - log_q

    total = 0.0
    for first in states:
        for second in states:
            (q1, w1), (q2, w2) = log_joint(*first), log_joint(*second)
            total = total + (q1 + q2).exp() * (torch.logaddexp(w1, w2) - torch.log(torch.tensor(2.0)))
    exact = torch.cat([g.reshape(-1) for g in torch.autograd.grad(total.mean(), list(program.parameters()))])
    samples = gradients(handlers.score_function(program, baseline=baseline), obj.iwae(), 2, draws)
    error = samples.std(0) / draws**0.5
    assert ((samples.mean(0) - exact).abs() < 4.5 * error + 1e-6).all()


@pytest.mark.parametrize("particles", [2, 8])
def test_vimco_lowers_the_variance_of_importance_weighted_gradients(particles):
    variance = {}
    for baseline in ("leave_one_out", "vimco"):
        torch.manual_seed(1)
        program = handlers.score_function(Mixture(), baseline=baseline)
        variance[baseline] = gradients(program, obj.iwae(), particles, 300).var(0).sum()
    assert variance["vimco"] < variance["leave_one_out"]


def test_vimco_replaces_one_log_weight_by_the_mean_of_the_others():
    """The baseline of each particle, written out for three particles."""
    run = obj.Run(as_program(Mixture()), (X,), {}, 3)
    (weighted,) = obj.iwae().weighted
    found, log_weight = weighted.term.without_particle(run), log_weights(run)
    for left_out in range(3):
        first, second = (log_weight[k] for k in range(3) if k != left_out)
        geometric = (first.exp() * second.exp()).sqrt()
        expected = ((first.exp() + second.exp() + geometric) / 3).log()
        torch.testing.assert_close(found[left_out], expected)


def test_vimco_with_one_particle_has_no_baseline():
    torch.manual_seed(1)
    one = gradients(handlers.score_function(Mixture(), baseline="vimco"), obj.iwae(), 1, 3)
    torch.manual_seed(1)
    assert torch.equal(one, gradients(handlers.score_function(Mixture(), baseline="none"), obj.iwae(), 1, 3))


def test_global_discrete_site_is_unbiased():
    logits, means = nn.Parameter(torch.tensor([0.2, -0.4, 0.1])), torch.tensor([-1.0, 0.0, 2.0])

    def model(x):
        k = pyro.sample("k", dist.Categorical(logits=torch.zeros(3)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(means[k], 1.0), obs=x)

    def guide(x):
        pyro.sample("k", dist.Categorical(logits=logits))

    log_q = logits.log_softmax(-1)
    log_p = dist.Normal(means[:, None], 1.0).log_prob(X).sum(1) - torch.log(torch.tensor(3.0))
    (exact,) = torch.autograd.grad((log_q.exp() * (log_p - log_q)).sum() / ROWS, logits)
    program, draws = Program(model, guide), 800
    torch.manual_seed(0)
    samples = torch.stack(
        [torch.autograd.grad(-obj.elbo().loss(program, X, num_particles=2), logits)[0] for _ in range(draws)]
    )
    error = samples.std(0) / draws**0.5
    assert ((samples.mean(0) - exact).abs() < 4 * error).all()


def test_value_is_not_changed_by_the_surrogate():
    program = as_program(Mixture())
    run = obj.Run(program, (X,), {}, 3)
    loss, terms = obj.elbo().assess(run)
    assert loss.item() == pytest.approx(-(terms["log_lik"] - terms["kl"]).item(), rel=1e-5)
