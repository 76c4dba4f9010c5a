"""Costs of paths against closed forms, from the solve of the log-density."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import ProgramError, UnknownNameError
from ppl_genmodels.objectives import Run
from ppl_genmodels.program import as_program
from ppl_genmodels.transforms import Affine, Autoregressive, Continuous, InvertibleLinear

F64 = torch.float64
RATE = 0.7
X = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.2, -0.1]], dtype=F64)


class Growth(nn.Module):
    """f(x) = rate x, so that x_t = exp(rate (t - 1)) x_1."""

    def __init__(self, rate=RATE):
        super().__init__()
        self.rate, self.calls = nn.Parameter(torch.tensor(rate, dtype=F64)), 0

    def forward(self, x, t):
        self.calls += 1
        return self.rate * x


class OfMatrix(nn.Module):
    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, x, t):
        return x @ self.matrix.T


def kinetic(x, rate=RATE):
    """The integral of rate² |x_t|² / 3 for paths that end at x."""
    return rate / 2 * (1 - math.exp(-2 * rate)) * x.square().mean(-1)


class Density(nn.Module):
    """Rows whose distribution is a flow, as some plate or handler leaves it."""

    def __init__(self, *layers, wrap=lambda flow: flow):
        super().__init__()
        self.layers, self.wrap = nn.ModuleList(layers), wrap

    def flow(self):
        return Flow(dist.Normal(torch.zeros(3, dtype=F64), 1.0).to_event(1), self.layers)

    def model(self, x=X):
        with pyro.plate("data", len(x)):
            pyro.sample("x", self.wrap(self.flow()), obs=x)


class Guided(Density):
    """The flow is the guide of a latent vector."""

    def model(self, x=X):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3, dtype=F64), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x=X):
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.flow())


@pytest.mark.parametrize("solver", ["dopri5", "rk4"])
def test_costs_of_growth_are_the_closed_form(solver):
    program = Density(Continuous(3, network=Growth(), solver=solver))
    found = (obj.kinetic_energy() + obj.jacobian_norm("x")).evaluate(program)
    torch.testing.assert_close(found["kinetic_energy"], kinetic(X), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["jacobian_norm[x]"], torch.full((2,), RATE**2, dtype=F64), atol=1e-6, rtol=0)


def test_costs_of_several_layers_add_up_and_others_have_none():
    layers = [Continuous(3, network=Growth()), InvertibleLinear(3).double(), Continuous(3, network=Growth(0.2))]
    program = Density(*layers)
    found = obj.kinetic_energy().evaluate(program)["kinetic_energy"]
    between = layers[1].inv(X * math.exp(-0.2))
    torch.testing.assert_close(found, kinetic(X, 0.2) + kinetic(between), atol=1e-6, rtol=0)


def test_hutchinson_estimates_the_norm_of_the_jacobian_without_bias():
    torch.manual_seed(0)
    matrix = torch.randn(3, 3, dtype=F64)
    layer = Continuous(3, network=OfMatrix(matrix), trace="hutchinson", solver="midpoint", steps=2)
    values = obj.jacobian_norm().evaluate(Density(layer), torch.zeros(20_000, 3, dtype=F64))["jacobian_norm"]
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - matrix.square().sum() / 3) < 4 * error


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_their_gradients_are_those_of_the_closed_form(gradient):
    field = Growth()
    program = Density(Continuous(3, network=field, gradient=gradient))
    (-(obj.kinetic_energy() + 2.0 * obj.jacobian_norm())).loss(program).backward()
    rate = torch.tensor(RATE, dtype=F64, requires_grad=True)
    expected = rate / 2 * (1 - (-2 * rate).exp()) * X.square().mean() + 2 * rate.square()
    torch.testing.assert_close(field.rate.grad, torch.autograd.grad(expected, rate)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [Density, Guided])
def test_all_terms_read_one_solve(make):
    calls = []
    for objective in (obj.elbo(), obj.kinetic_energy() + obj.elbo() - 0.01 * obj.jacobian_norm()):
        field = Growth()
        objective.loss(make(Continuous(3, network=field)), X).backward()
        calls.append(field.calls)
    assert calls[0] == calls[1]


def test_the_cost_of_a_draw_is_that_of_its_path():
    torch.manual_seed(0)
    run = Run(as_program(Guided(Continuous(3, network=Growth()))), (X,), {}, num_particles=4)
    (term,) = obj.kinetic_energy("z").values(run).values()
    torch.testing.assert_close(term, kinetic(run.guide.nodes["z"]["value"]), atol=1e-6, rtol=0)


def test_sites_that_share_a_layer_have_their_own_costs():
    layer, other = Continuous(3, network=Growth()), 2 * X

    class Two(Density):
        def model(self, x=X):
            with pyro.plate("data", len(x)):
                pyro.sample("x", self.flow(), obs=x)
                pyro.sample("y", self.flow(), obs=other)

    found = (obj.log_lik() + obj.kinetic_energy("x") + obj.kinetic_energy("y")).evaluate(Two(layer))
    torch.testing.assert_close(found["kinetic_energy[x]"], kinetic(X), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["kinetic_energy[y]"], kinetic(other), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda flow: flow.mask(torch.tensor([True, False])), kinetic(X) * torch.tensor([1.0, 0.0])),
        (lambda flow: dist.Independent(flow.expand((2, 1)), 1), kinetic(X)),
        (lambda flow: flow.mask(True).expand((2,)), kinetic(X)),
    ],
)
def test_costs_are_found_behind_what_is_around_the_flow(wrap, expected):
    program = Density(Continuous(3, network=Growth()), wrap=wrap)
    x = X.unsqueeze(1) if wrap(program.flow()).event_shape == (1, 3) else X
    found = obj.kinetic_energy().evaluate(program, x)["kinetic_energy"]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_they_sit_in_the_algebra():
    objective = obj.log_lik() - 0.01 * obj.kinetic_energy("x") - obj.Linear(0.0, 1.0, steps=10) * obj.jacobian_norm()
    assert str(objective) == (
        "E_q[log p(x|z)] - 0.01 * E_q[∫|dx/dt|²dt / d] - linear(0→1 in 10) * E_q[∫|∂f/∂x|²dt / d]"
    )


@pytest.mark.parametrize(
    ("objective", "layer", "error", "message"),
    [
        (
            obj.kinetic_energy("w"),
            Continuous(3, network=Growth()),
            UnknownNameError,
            r"no site 'w' in kinetic_energy\('w'\)",
        ),
        (
            obj.jacobian_norm("x"),
            Autoregressive(3, (4,), Affine()).double(),
            ProgramError,
            "of site 'x' is no flow with a",
        ),
        (obj.kinetic_energy(), Autoregressive(3, (4,)).double(), ProgramError, "no site's distribution is a flow with"),
    ],
)
def test_what_has_no_path_is_refused(objective, layer, error, message):
    with pytest.raises(error, match=message):
        objective.evaluate(Density(layer), X)
