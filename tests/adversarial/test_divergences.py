"""Divergences that critics estimate, against closed forms, where the best critic is in reach."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import inference
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError
from ppl_genmodels.program import as_program

MEAN, SCALE = 0.8, 1.2
FIRST, SECOND = dist.Normal(0.0, 1.0), dist.Normal(MEAN, SCALE)
GRID = torch.linspace(-12, 12, 20001, dtype=torch.float64)


def integral(of):
    p, q = FIRST.log_prob(GRID).exp(), SECOND.log_prob(GRID).exp()
    return torch.trapezoid(of(p, q), GRID).item()


def middle(p, q):
    return 0.5 * (p * (2 * p / (p + q)).log() + q * (2 * q / (p + q)).log())


EXACT = {
    obj.KullbackLeibler(): integral(lambda p, q: p * (p / q).log()),
    obj.ReverseKullbackLeibler(): integral(lambda p, q: q * (q / p).log()),
    obj.JensenShannon(): integral(middle),
    obj.Minimax(): 2 * integral(middle),
    obj.NonSaturating(): 2 * integral(middle),
    obj.ChiSquared(): integral(lambda p, q: (p - q) ** 2 / q),
    obj.LeastSquares(): integral(lambda p, q: (p - q) ** 2 / (p + q)) / 8,
    obj.Hinge(): integral(lambda p, q: (p - q).abs()),
}


def best_score(divergence, x):
    """The critic at its optimum."""
    ratio = (FIRST.log_prob(x) - SECOND.log_prob(x)).exp()
    if isinstance(divergence, obj.KullbackLeibler):
        return 1 + ratio.log()
    if isinstance(divergence, obj.ChiSquared):
        return 2 * (ratio - 1)
    if isinstance(divergence, obj.LeastSquares):
        return ratio / (1 + ratio)
    return ratio.log().sign() if isinstance(divergence, obj.Hinge) else ratio.log()


@pytest.mark.parametrize("divergence", EXACT, ids=lambda one: type(one).__name__)
def test_the_best_critic_attains_the_divergence_and_no_other_exceeds_it(divergence):
    score = best_score(divergence, GRID)

    def attained(score):
        first, second = (
            divergence.bound(score, torch.zeros_like(score)),
            divergence.bound(torch.zeros_like(score), score),
        )
        neutral = divergence.bound(torch.zeros(()), torch.zeros(()))
        return integral(lambda p, q: p * (first - neutral) + q * (second - neutral)) + neutral.item()

    exact = attained(score)
    assert exact == pytest.approx(EXACT[divergence], rel=1e-3)
    for other in (score + 0.1, 0.9 * score, score + 0.1 * GRID.sin()):
        assert attained(other) < exact


@pytest.mark.parametrize("divergence", EXACT, ids=lambda one: type(one).__name__)
def test_scores_tell_the_ratio_where_they_can(divergence):
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    if isinstance(divergence, obj.Hinge):
        with pytest.raises(OptionError, match="its critic does not tell the density ratio"):
            divergence.log_ratio(x)
    else:
        found = divergence.log_ratio(best_score(divergence, x))
        torch.testing.assert_close(found, FIRST.log_prob(x) - SECOND.log_prob(x), rtol=1e-5, atol=1e-6)


class Fixed(nn.Module):
    """A model of the second density, without parameters."""

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.deterministic("x", MEAN + SCALE * z, event_dim=1)


class Quadratic(nn.Module):
    """A critic that holds the log-ratio of two normal densities, and begins by telling nothing."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x):
        return self.linear(torch.cat([x, x.square()], -1))


def trained(critic, divergence, steps, rate=0.03, rows=4096):
    torch.manual_seed(0)
    program, term = as_program(Fixed()).with_critics([critic]), obj.adversarial("x", critic, divergence=divergence)
    (game,) = term.games
    optimizer = torch.optim.Adam(critic.parameters(), lr=rate, betas=(0.5, 0.9))
    step = inference.compile_step(game.objective, program, optimizer, mode="trace")
    for number in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - number / steps)
        step(torch.randn(rows, 1))
    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1))
    return term.evaluate(program, x)["adversarial[x]"].mean().item()


F_DIVERGENCES = [obj.KullbackLeibler(), obj.ReverseKullbackLeibler(), obj.JensenShannon(), obj.Minimax()]


@pytest.mark.parametrize("divergence", F_DIVERGENCES, ids=lambda one: type(one).__name__)
def test_a_trained_critic_knows_ratio_and_divergence(divergence):
    critic = Quadratic()
    estimate = trained(critic, divergence, steps=300)
    assert estimate == pytest.approx(EXACT[divergence], rel=0.05)
    x = MEAN + SCALE * torch.randn(2000, 1, generator=torch.Generator().manual_seed(2))
    exact = (FIRST.log_prob(x) - SECOND.log_prob(x)).squeeze(-1)
    found = divergence.log_ratio(critic(x).detach()).squeeze(-1)
    assert 1 - (found - exact).var() / exact.var() > 0.99


@pytest.mark.parametrize(
    "divergence", [obj.ChiSquared(), obj.LeastSquares(), obj.Hinge()], ids=lambda one: type(one).__name__
)
def test_a_network_comes_within_five_percent_of_the_divergence(divergence):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
    estimate = trained(critic, divergence, steps=300)
    assert estimate == pytest.approx(EXACT[divergence], rel=0.05)
    x = torch.linspace(-2.5, 2.5, 200)[:, None]
    exact = (FIRST.log_prob(x) - SECOND.log_prob(x)).squeeze(-1)
    if not isinstance(divergence, obj.Hinge):
        found = divergence.log_ratio(critic(x).detach()).squeeze(-1)
        assert 1 - (found - exact).var() / exact.var() > 0.99


def test_the_gradient_penalty_is_the_papers():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    first, second = torch.randn(6, 3), torch.randn(6, 3)
    for at, point in (("first", first), ("second", second)):
        found = obj.GradientPenalty(2.0, at=at)(critic, [first], [second])
        point = point.clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(point).sum(), point)
        torch.testing.assert_close(found, 2 * (slope.norm(dim=-1) - 1).square(), rtol=1e-4, atol=1e-5)
    steep, flat = 5.0 * torch.eye(3)[:1], 0.1 * torch.eye(3)[:1]
    for weight, expected in ((steep, 2 * 4.0**2), (flat, 0.0)):
        found = obj.GradientPenalty(2.0, one_sided=True)(lambda x, w=weight: x @ w.T, [first], [second])
        torch.testing.assert_close(found, torch.full((6,), expected), rtol=1e-5, atol=1e-6)
    linear = nn.Linear(3, 1)
    slope = linear.weight.norm()
    found = obj.GradientPenalty(1.0, target=0.0)(linear, [first], [second])
    torch.testing.assert_close(found, slope.square().expand(6), rtol=1e-5, atol=1e-6)


def test_its_gradient_reaches_the_critic_as_autograd_has_it():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    values = [torch.randn(6, 3, dtype=torch.float64)]
    penalty = obj.GradientPenalty(1.0, at="first")
    (found,) = torch.autograd.grad(penalty(critic, values, values).sum(), critic[0].weight)
    direction, small = torch.randn_like(critic[0].weight), 1e-6

    def at(step):
        with torch.no_grad():
            critic[0].weight += step * direction
        value = penalty(critic, values, values).sum().item()
        with torch.no_grad():
            critic[0].weight -= step * direction
        return value

    assert (found * direction).sum().item() == pytest.approx((at(small) - at(-small)) / (2 * small), rel=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="gradient_penalty=-1, expected 0 or more"):
        obj.Wasserstein(gradient_penalty=-1)
    with pytest.raises(OptionError, match="largest_weight=0, expected a positive number"):
        obj.Wasserstein(largest_weight=0)
    with pytest.raises(OptionError, match="at='here', expected one of 'between'"):
        obj.GradientPenalty(1.0, at="here")
