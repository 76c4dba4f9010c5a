"""Walkback with a linear operator, where evidence and bound are known, and a spurious mode that it repairs."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from ppl_genmodels.errors import DataError, OptionError, ProgramError
from ppl_genmodels.inference import compile_step
from ppl_genmodels.models import Walkback
from ppl_genmodels.objectives import elbo
from ppl_genmodels.program import as_program

DIM, STEPS = 2, 3
SIZE = DIM * (STEPS + 1)


def linear(growth=2.0):
    """A program whose operator has a mean that is linear in the state, and the same variance everywhere."""
    generator = torch.Generator().manual_seed(0)
    program = Walkback(DIM, hidden=(), steps=STEPS, noise=0.7, growth=growth).double()
    with torch.no_grad():
        layer = program.network.layers[0]
        layer.weight[:DIM] = 0.5 * torch.randn(DIM, DIM, generator=generator)
        layer.bias.add_(0.2 * torch.randn(2 * DIM, generator=generator))
        program.loc.copy_(torch.tensor([0.3, -0.2]))
    return program


def step_of(program):
    """Matrix, offset and variance at temperature 1 of a linear operator."""
    layer = program.network.layers[0]
    matrix = 0.5 * (torch.eye(DIM) + layer.weight[:DIM])
    return matrix, 0.5 * layer.bias[:DIM], torch.nn.functional.softplus(layer.bias[DIM:])


def along(program, first, temperatures):
    """The exact normal distribution of all states of a walk from a normal state, the first before the others."""
    matrix, offset, variance = step_of(program)
    means, covariance = [first.mean], first.covariance_matrix
    for temperature in temperatures:
        means.append(matrix @ means[-1] + offset)
        below = torch.cat([torch.zeros(DIM, len(covariance) - DIM).to(covariance), matrix], 1) @ covariance
        last = below[:, -DIM:] @ matrix.mT + temperature * variance.diag()
        covariance = torch.cat([torch.cat([covariance, below.mT], 1), torch.cat([below, last], 1)])
    return torch.cat(means), covariance


def exact(program, x):
    """Evidence and bound of one datum."""
    start = dist.MultivariateNormal(program.loc, (2 * program.log_scale).exp().diag())
    mean, covariance = along(program, start, program.temperatures[::-1])
    states, last = slice(0, SIZE - DIM), slice(SIZE - DIM, SIZE)
    evidence = dist.MultivariateNormal(mean[last], covariance[last, last]).log_prob(x)
    gain = torch.linalg.solve(covariance[last, last], covariance[last, states]).mT
    left = covariance[states, states] - gain @ covariance[last, states]
    posterior = dist.MultivariateNormal(mean[states] + gain @ (x - mean[last]), 0.5 * (left + left.mT))
    known = dist.MultivariateNormal(x, 1e-12 * torch.eye(DIM).double())
    mean, covariance = along(program, known, program.temperatures)
    order = torch.arange(SIZE).reshape(-1, DIM)[1:].flip(0).flatten()  # the hottest first
    walked = dist.MultivariateNormal(mean[order], covariance[order][:, order])
    return evidence, evidence - kl_divergence(walked, posterior)


def bounds(program, x, draws=2000, guide=None):
    """Draws of the bound of one datum, shape (draws,)."""
    terms = elbo("monte_carlo").evaluate((program.model, guide or program.guide), x.expand(draws, DIM))
    return (terms["log_lik"] - terms["kl"]).flatten()


X = torch.tensor([0.8, -1.1], dtype=torch.float64)


@pytest.mark.parametrize("growth", [1.0, 2.0])
def test_the_bound_of_a_linear_operator_is_the_evidence_less_the_divergence_of_the_walk(growth):
    torch.manual_seed(0)
    program = linear(growth)
    evidence, bound = exact(program, X)
    for guide in (program.guide, program.walk):
        found = bounds(program, X, guide=guide)
        assert found.mean().item() == pytest.approx(bound.item(), abs=4 * found.std().item() / 2000**0.5)
        assert found.mean().item() < evidence.item() - 0.1


def test_weights_of_many_walks_give_the_evidence():
    torch.manual_seed(0)
    program = linear()
    weight = bounds(program, X, draws=100_000).exp()
    error = (weight.std() / weight.mean()).item() / 100_000**0.5
    assert weight.mean().log().item() == pytest.approx(exact(program, X)[0].item(), abs=4 * error)
    assert error < 0.05


def test_an_operator_in_detailed_balance_has_no_gap_for_any_walk():
    torch.manual_seed(0)
    program = Walkback(DIM, hidden=(), steps=5, noise=0.5, growth=1.0).double()
    with torch.no_grad():
        program.network.layers[0].weight[:DIM] = torch.tensor([[0.4, 0.0], [0.0, -0.6]])
        matrix, _, variance = step_of(program)
        stationary = variance / (1 - matrix.diag() ** 2)
        program.log_scale.copy_(0.5 * stationary.log())
    expected = dist.Normal(torch.zeros(DIM).double(), stationary.sqrt()).to_event(1).log_prob(X)
    torch.testing.assert_close(bounds(program, X, draws=10), expected.expand(10), rtol=1e-9, atol=1e-9)


def gradient_of(program, value):
    """By all but what the variance depends on the state by: that has no closed form."""
    names = ("network.layers.0.weight", "network.layers.0.bias", "loc", "log_scale")
    weight, *others = torch.autograd.grad(value, [program.get_parameter(name) for name in names])
    return torch.cat([weight[:DIM].flatten(), *others])


def test_the_guide_has_the_gradient_of_the_bound_and_the_walk_another():
    torch.manual_seed(0)
    program = linear()
    expected = gradient_of(program, exact(program, X)[1])

    def apart(guide):
        """The mean difference of estimates from the exact gradient, and its standard errors."""
        pair = as_program((program.model, guide))
        values = (-elbo().loss(pair, X.expand(50, DIM)) for _ in range(200))
        found = torch.stack([gradient_of(program, value) for value in values])
        return found.mean(0) - expected, found.std(0) / 200**0.5

    difference, error = apart(program.guide)
    assert (difference.abs() < 4.5 * error + 1e-9).all()
    difference, error = apart(program.walk)
    operator, start = slice(0, DIM * DIM + 2 * DIM), slice(DIM * DIM + 2 * DIM, None)
    assert (difference[operator].abs() > 5 * error[operator]).sum() > DIM * DIM
    assert (difference[start].abs() < 4.5 * error[start] + 1e-9).all()  # no walk passes through it


def test_the_walk_leaves_the_gradient_of_the_way_back_alone():
    program = Walkback(DIM, hidden=(8,), steps=STEPS)
    torch.nn.init.normal_(program.network.layers[-1].weight, std=0.3)
    x = torch.randn(6, DIM, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    found = torch.autograd.grad(elbo("monte_carlo").loss((program.model, program.walk), x), [*program.parameters()])
    torch.manual_seed(1)
    states = [x]
    for temperature in program.temperatures:
        states.append(program.transition(states[-1], temperature).rsample().detach())
    back = program.start().log_prob(states[-1])
    for temperature, before, after in zip(program.temperatures, states[:-1], states[1:], strict=True):
        back = back + program.transition(after, temperature).log_prob(before)
    expected = torch.autograd.grad(-back.mean(), [*program.parameters()])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("role", ["guide", "walk"])
def test_a_traced_step_is_the_eager_one(role):
    losses = {}
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        program = Walkback(DIM, hidden=(8,), steps=STEPS)
        optimizer = torch.optim.Adam(program.parameters(), 0.01)
        step = compile_step(elbo(), (program.model, getattr(program, role)), optimizer, mode)
        torch.manual_seed(1)
        losses[mode] = [step(torch.randn(6, DIM)).item() for _ in range(4)]
    assert losses["trace"] == pytest.approx(losses["off"], rel=1e-4)


def test_draws_have_the_moments_of_the_model():
    torch.manual_seed(0)
    program = linear()
    start = dist.MultivariateNormal(program.loc, (2 * program.log_scale).exp().diag())
    for cold in (0, 3):
        temperatures = [*program.temperatures[::-1], *[1.0] * cold]
        mean, covariance = along(program, start, temperatures)
        drawn = program.generate(20_000, cold)
        error = covariance[-DIM:, -DIM:].diag().sqrt() / 20_000**0.5
        assert ((drawn.mean(0) - mean[-DIM:]).abs() < 4 * error).all()
        spread = covariance[-DIM:, -DIM:]
        errors = ((spread**2 + spread.diag().outer(spread.diag())) / 20_000).sqrt()
        assert ((drawn.mT.cov() - spread).abs() < 4 * errors).all()


def trained(program, draw, steps):
    """Fitted by the bound to new draws at each step."""
    optimizer = torch.optim.Adam(program.parameters(), 5e-3)
    step = compile_step(elbo(), program, optimizer, "trace")
    for _ in range(steps):
        step(draw(128))


def test_a_planted_mode_vanishes_by_walks_that_reach_it():
    """Data at -1 and 1, an operator that was taught a third mode at 3; short walks do not reach it and leave it."""
    torch.manual_seed(0)

    def data(rows):
        return (2.0 * torch.randint(2, (rows, 1)) - 1) + 0.15 * torch.randn(rows, 1)

    def with_planted(rows):
        return torch.where(torch.rand(rows, 1) < 0.4, 3 + 0.15 * torch.randn(rows, 1), data(rows))

    def spurious(program):
        return (program.generate(4000, cold=10) > 2.2).float().mean().item()

    program = Walkback(1, hidden=(32, 32), steps=6, noise=0.15)
    trained(program, with_planted, 400)
    before = spurious(program)
    assert before > 0.2
    trained(program, data, 400)
    assert spurious(program) < 0.01
    drawn = program.generate(4000, cold=10)
    near = ((drawn.abs() - 1).abs() < 0.6).float().mean()
    assert near > 0.9
    assert 0.35 < (drawn > 0).float().mean() < 0.65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dim": 0}, "data_dim=0, expected a positive integer"),
        ({"data_dim": 2, "steps": 0}, "steps=0, expected a positive integer"),
        ({"data_dim": 2, "noise": 0.0}, "noise=0.0, expected a positive number"),
        ({"data_dim": 2, "data_scale": -1.0}, "data_scale=-1.0, expected a positive number"),
        ({"data_dim": 2, "growth": 0.5}, "growth=0.5, expected 1 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Walkback(**options)


def test_a_walk_needs_data_of_its_length():
    program = Walkback(2, hidden=(8,))
    for role in (program.guide, program.walk):
        with pytest.raises(ProgramError, match="'x'"):
            role()
    with pytest.raises(DataError, match=r"expected \(rows, 2\)"):
        program.guide(torch.zeros(5, 3))
