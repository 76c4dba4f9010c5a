"""Flow matching: its optimum in closed form, what is learned by it, and what pairing changes."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import fit
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.objectives import Run
from ppl_genmodels.objectives.flow_matching import assignment
from ppl_genmodels.program import as_program
from ppl_genmodels.transforms import ActNorm, Continuous, Coupling, first_data

LOC, SCALE = torch.tensor([1.5, -0.5]), torch.tensor([0.3, 2.0])


class Marginal(nn.Module):
    """E[x_1 - x_0 | x_t] for noise N(0, I) and independent data N(LOC, SCALE²), with a shift that should be zero."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(4, 2))

    def forward(self, x, t):
        t = t.unsqueeze(-1)
        variance = (1 - t) ** 2 + (t * SCALE) ** 2
        velocity = LOC + (t * SCALE**2 - (1 - t)) / variance * (x - t * LOC)
        tests = torch.stack([torch.ones_like(x), x, t.expand_as(x), x * t], -1)
        return velocity + torch.einsum("...dk,kd->...d", tests, self.shift)


class Density(nn.Module):
    """Rows whose distribution is a flow, maybe given a context."""

    def __init__(self, *layers, features=2, encoder=None):
        super().__init__()
        self.layers, self.encoder = nn.ModuleList(layers), encoder
        self.register_buffer("zeros", torch.zeros(features), persistent=False)

    def flow(self, x=None):
        flow = Flow(dist.Normal(self.zeros, 1.0).to_event(1), self.layers)
        return flow if self.encoder is None else flow.condition(self.encoder(x))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", self.flow(x), obs=x)


def trained(program, x, steps=1200, batch=512, **options):
    """The program after some steps of a falling learning rate."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(program.parameters(), 2e-2, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    objective = obj.flow_matching(**options)
    for _ in range(steps):
        optimizer.zero_grad()
        objective.loss(program, x[torch.randint(len(x), (batch,))]).backward()
        optimizer.step()
        schedule.step()
    return program


def test_the_marginal_velocity_is_the_optimum_and_carries_to_the_data():
    """There the value is minus the velocity's variance, pi/2 times the data's scale, and the slope is zero."""
    torch.manual_seed(0)
    program = Density(Continuous(2, network=Marginal(), rtol=1e-6, atol=1e-6))
    x = LOC + SCALE * torch.randn(40_000, 2)
    values = obj.flow_matching("x").evaluate(program, x)["flow_matching[x]"]
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() + math.pi / 2 * SCALE.mean()) < 4 * error
    slopes = []
    for part in x.split(400):
        program.zero_grad()
        obj.flow_matching().loss(program, part).backward()
        slopes.append(program.layers[0].network.shift.grad)
    slopes = torch.stack(slopes)
    assert (slopes.mean(0).abs() < 4 * slopes.std(0) / len(slopes) ** 0.5).all()
    truth = dist.Normal(LOC, SCALE).to_event(1).log_prob(x[:50])
    torch.testing.assert_close(program.flow().log_prob(x[:50]), truth, atol=1e-4, rtol=0)


def test_a_fitted_field_approaches_the_marginal_velocity():
    """Root mean squared difference below a tenth of the velocity's own size, where the paths are."""
    torch.manual_seed(0)
    x = LOC + SCALE * torch.randn(20_000, 2)
    program = trained(Density(Continuous(2, (32, 32))), x)
    t, exact = torch.rand(2000, 1), Marginal()
    place = t * x[:2000] + (1 - t) * torch.randn(2000, 2)
    with torch.no_grad():
        found, expected = program.layers[0].velocity(t, place), exact(place, t.squeeze(-1))
    assert (found - expected).square().mean().sqrt() < 0.1 * expected.square().mean().sqrt()


def test_a_fitted_density_approaches_the_truth_in_one_dimension():
    """Divergence in nats by quadrature."""
    torch.manual_seed(0)
    halves = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.tensor([-1.5, 1.5]), 0.5))
    program = trained(Density(Continuous(1, (32, 32)), features=1), halves.sample((20_000, 1)))
    line = torch.linspace(-5, 5, 1001).unsqueeze(-1)
    log_p = halves.log_prob(line).squeeze(-1)
    with torch.no_grad():
        log_q = program.flow().log_prob(line)
    assert 0 <= torch.trapezoid(log_p.exp() * (log_p - log_q), line.squeeze(-1)) < 0.03
    assert torch.trapezoid(log_q.exp(), line.squeeze(-1)).item() == pytest.approx(1.0, abs=1e-3)


@pytest.fixture(scope="module")
def ring():
    """Six Gaussians on a circle: the distribution, and a program fitted by each pairing."""
    torch.manual_seed(0)
    angle = torch.arange(6) * math.pi / 3
    parts = dist.Normal(2 * torch.stack([angle.cos(), angle.sin()], -1), 0.4).to_event(1)
    truth = dist.MixtureSameFamily(dist.Categorical(torch.ones(6)), parts)
    x = truth.sample((20_000,))
    pairings = ("independent", "optimal_transport")
    return truth, {each: trained(Density(Continuous(2, (48, 48))), x, 900, 128, pairing=each) for each in pairings}


@pytest.mark.parametrize("pairing", ["independent", "optimal_transport"])
def test_a_fitted_density_approaches_the_truth_in_two_dimensions(ring, pairing):
    truth, programs = ring
    torch.manual_seed(1)
    x = truth.sample((2000,))
    with torch.no_grad():
        difference = truth.log_prob(x) - programs[pairing].flow().log_prob(x)
    assert difference.mean() < 0.1
    assert difference.mean() > -4 * difference.std() / len(difference) ** 0.5


def test_optimal_transport_straightens_the_paths(ring):
    """Kinetic energy along the paths to the same points, and evaluations of the same solver."""
    truth, programs = ring
    torch.manual_seed(1)
    x, costs, counts = truth.sample((2000,)), {}, {}
    for pairing, program in programs.items():
        costs[pairing] = obj.kinetic_energy().evaluate(program, x)["kinetic_energy"]
        counts[pairing] = program.layers[0].evaluations
    saved = costs["independent"] - costs["optimal_transport"]
    print({name: round(cost.mean().item(), 3) for name, cost in costs.items()}, counts)
    assert saved.mean() > 4 * saved.std() / len(saved) ** 0.5
    assert counts["optimal_transport"] <= counts["independent"]


def test_the_assignment_is_the_cheapest_of_all():
    cost = torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
    cheapest = min(itertools.permutations(range(5)), key=lambda order: cost[range(5), order].sum().item())
    assert assignment(cost).tolist() == list(cheapest)


@pytest.mark.parametrize("pairing", ["independent", "optimal_transport"])
def test_steps_are_traced_with_the_same_numbers(pairing):
    fitted = []
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        program, x = Density(Continuous(2, (8,)), ActNorm(2)), 3 + torch.randn(40, 2)
        fit(program, x, objective=obj.flow_matching(pairing=pairing), steps=4, compile=mode, progress=False)
        fitted.append(program.state_dict())
    assert all(torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])


def test_no_path_is_solved_and_one_evaluation_serves_all_particles():
    program, x, calls = Density(Continuous(2, (8,))), torch.randn(5, 2), []
    program.layers[0].network.register_forward_hook(lambda *_: calls.append(1))
    run = Run(as_program(program), (x,), {}, num_particles=3)
    before, solved = len(calls), program.layers[0].evaluations
    (values,) = obj.flow_matching().values(run).values()
    assert values.shape == (3, 5)
    assert len(calls) == before + 1
    assert program.layers[0].evaluations == solved


def test_layers_after_the_continuous_one_are_inverted_and_held():
    x = 100 + 10 * torch.randn(50, 2)
    program = Density(Continuous(2, (8,)), ActNorm(2))
    with first_data():
        standard = program.layers[1].inv(x)
    torch.manual_seed(0)
    loss = obj.flow_matching().loss(program, x)
    torch.manual_seed(0)
    torch.testing.assert_close(loss, obj.flow_matching().loss(Density(program.layers[0]), standard.detach()))
    loss.backward()
    assert program.layers[1].loc.grad is None
    assert program.layers[0].network.network.layers[-1].bias.grad.norm() > 0


def test_a_context_is_given_to_the_field_and_learned():
    torch.manual_seed(0)
    program = Density(Continuous(2, (8,), context_features=3), encoder=nn.Linear(2, 3))
    with torch.no_grad():
        program.layers[0].network.network.layers[-1].weight.normal_()
    obj.flow_matching().loss(program, torch.randn(5, 2)).backward()
    assert program.encoder.weight.grad.norm() > 0


def test_no_gradient_passes_to_a_guide():
    class Prior(Density):
        def __init__(self):
            super().__init__(Continuous(2, (8,)))
            self.loc = nn.Parameter(torch.zeros(2))

        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.flow())
                pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))

    program = Prior()
    obj.flow_matching("z").loss(program, torch.randn(5, 2)).backward()
    assert program.loc.grad is None
    assert program.layers[0].network.network.layers[-1].bias.grad.norm() > 0


@pytest.mark.parametrize(
    ("objective", "program", "error", "message"),
    [
        (
            lambda: obj.flow_matching(pairing="random"),
            Density(Continuous(2)),
            OptionError,
            "'independent' or 'optimal_transport', got 'random'",
        ),
        (
            lambda: obj.flow_matching(pairing="optimal_transport"),
            Density(Continuous(2, context_features=2), encoder=nn.Identity()),
            OptionError,
            "site 'x' has a context",
        ),
        (
            obj.flow_matching,
            Density(Coupling(2)),
            ProgramError,
            "no site's distribution is a flow with a continuous layer",
        ),
        (obj.flow_matching, Density(Coupling(2), Continuous(2)), ProgramError, "the transforms Coupling, Continuous"),
        (obj.flow_matching, Density(Continuous(2), Continuous(2)), ProgramError, "expected .* one Continuous layer"),
    ],
)
def test_what_cannot_be_matched_is_refused(objective, program, error, message):
    with pytest.raises(error, match=message):
        objective().loss(program, torch.randn(5, 2))
