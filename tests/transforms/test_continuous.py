"""The continuous layer against closed forms, autodiff, and the solvers of torchdiffeq."""

import copy
import functools

import pyro.distributions as dist
import pytest
import torch
import torchdiffeq
from torch import nn
from torch.autograd.functional import jacobian
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels import fit
from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import NonFiniteError, OptionError
from ppl_genmodels.inference import CompileWarning
from ppl_genmodels.models import ContinuousFlow
from ppl_genmodels.transforms import Continuous, call_and_ladj, inverse_and_ladj, ode

F64 = torch.float64
MATRIX = torch.tensor([[0.5, -0.8, 0.2], [0.9, 0.1, 0.4], [-0.3, 0.6, -0.4]], dtype=F64)


class LinearField(nn.Module):
    """f(x, t) = (1 + slope (t - 1/2)) A x, whose flow is exp(A) whatever the slope."""

    def __init__(self, matrix=MATRIX, slope=1.0):
        super().__init__()
        self.matrix, self.slope, self.calls = nn.Parameter(matrix.clone()), slope, 0

    def forward(self, x, t):
        self.calls += 1
        return (1 + self.slope * (t.unsqueeze(-1) - 0.5)) * (x @ self.matrix.T)


class Function(nn.Module):
    """Any function of a time and values as a field."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, t):
        return self.function(t.unsqueeze(-1), x)


def bent(features=3, dtype=F64, size=0.4, **options):
    """A layer away from where it starts."""
    torch.manual_seed(0)
    layer = Continuous(features, (8,), **options).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return layer


def standard(features):
    return dist.Normal(torch.zeros(features, dtype=F64), 1.0).to_event(1)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (F64, 1e-6)])
@pytest.mark.parametrize("solver", ["dopri5", "dopri8", "bosh3", "rk4"])
def test_a_linear_field_carries_by_the_matrix_exponential(solver, dtype, atol):
    torch.manual_seed(0)
    x, field = torch.randn(6, 3, dtype=dtype), LinearField().to(dtype)
    layer = Continuous(3, network=field, solver=solver, steps=40)
    y, ladj = layer.call_and_ladj(x)
    exponential = torch.linalg.matrix_exp(MATRIX).to(dtype)
    torch.testing.assert_close(y, x @ exponential.T, atol=atol, rtol=0)
    torch.testing.assert_close(ladj, MATRIX.trace().to(dtype).expand(6), atol=atol, rtol=0)
    back, other = layer.inverse_and_ladj(x @ exponential.T)
    torch.testing.assert_close(back, x, atol=atol, rtol=0)
    torch.testing.assert_close(other, MATRIX.trace().to(dtype).expand(6), atol=atol, rtol=0)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_fixed_steps_have_their_order_and_are_those_of_torchdiffeq(solver, order):
    x, field = torch.ones(2, 3, dtype=F64), LinearField()
    exact = x @ torch.linalg.matrix_exp(MATRIX).T
    errors = [(Continuous(3, network=field, solver=solver, steps=n)(x) - exact).norm().item() for n in (20, 40)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)
    times = torch.linspace(0, 1, 21, dtype=F64)
    theirs = torchdiffeq.odeint(lambda t, value: field(value, t), x, times, method=solver)[-1]
    torch.testing.assert_close(Continuous(3, network=field, solver=solver, steps=20)(x), theirs, atol=1e-13, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_the_inverse_gives_back_what_went_in(dtype, batch):
    layer = bent(dtype=dtype, **({} if dtype is torch.float32 else {"solver": "dopri8", "rtol": 1e-12, "atol": 1e-12}))
    atol = 1e-4 if dtype is torch.float32 else 1e-10
    x = torch.randn(*batch, 3, dtype=dtype)
    y, ladj = call_and_ladj(layer, x)
    back, other = inverse_and_ladj(layer, y)
    assert y.dtype == ladj.dtype == dtype
    assert ladj.shape == other.shape == batch
    assert (y - x).abs().max() > 0.1
    torch.testing.assert_close(back, x, atol=atol, rtol=0)
    torch.testing.assert_close(ladj, other, atol=10 * atol, rtol=0)
    torch.testing.assert_close(layer.log_abs_det_jacobian(x, y), ladj)


def test_the_log_determinant_is_that_of_autodiff():
    layer = bent(solver="dopri8", rtol=1e-10, atol=1e-10)
    x = torch.randn(3, dtype=F64)
    expected = torch.linalg.slogdet(jacobian(layer, x))[1]
    torch.testing.assert_close(layer.call_and_ladj(x)[1], expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("noise", "variance"),
    [
        ("gaussian", lambda s: 2 * s.square().sum()),
        ("rademacher", lambda s: 2 * (s.square().sum() - s.diagonal().square().sum())),
    ],
)
def test_hutchinson_is_right_on_average_and_holds_its_noise(noise, variance):
    """Held fixed, the estimate for a linear field is a quadratic form, whose variance is known."""
    torch.manual_seed(0)
    layer = Continuous(3, network=LinearField(slope=0.0), trace="hutchinson", noise=noise, solver="midpoint", steps=2)
    _, ladj = layer.call_and_ladj(torch.randn(20_000, 3, dtype=F64))
    ladj = ladj.detach()
    error = ladj.std() / len(ladj) ** 0.5
    print(f"{noise}: {ladj.mean():.4f} with standard error {error:.4f}, exact {MATRIX.trace():.4f}")
    assert abs(ladj.mean() - MATRIX.trace()) < 4 * error
    squares = (ladj - MATRIX.trace()).square()
    expected = variance((MATRIX + MATRIX.T) / 2)
    assert abs(squares.mean() - expected) < 4 * squares.std() / len(squares) ** 0.5


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
def test_exact_and_hutchinson_log_densities_agree_in_expectation(noise):
    exact, estimated = bent(solver="rk4", steps=6), bent(solver="rk4", steps=6, trace="hutchinson", noise=noise)
    x = torch.randn(3, dtype=F64)
    with torch.no_grad():
        expected = Flow(standard(3), [exact]).log_prob(x)
        values = Flow(standard(3), [estimated]).log_prob(x.expand(5000, 3))
    error = values.std() / len(values) ** 0.5
    print(f"{noise}: {values.mean():.4f} with standard error {error:.4f}, exact {expected:.4f}")
    assert error > 0
    assert abs(values.mean() - expected) < 4 * error


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (F64, 1e-7)])
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_adjoint_and_direct_gradients_agree(dtype, rtol, trace):
    tolerances = {"rtol": 1e-6, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    slopes = []
    for gradient in ("direct", "adjoint"):
        layer = bent(dtype=dtype, gradient=gradient, trace=trace, context_features=2, **tolerances)
        torch.manual_seed(1)
        x, source = (torch.randn(7, n, dtype=dtype).requires_grad_() for n in (3, 2))
        x_back, ladj = layer.condition(source.tanh()).inverse_and_ladj(x)
        (x_back.square().sum() + ladj.square().sum()).backward()
        slopes.append([x.grad, source.grad, *(parameter.grad for parameter in layer.parameters())])
    for direct, adjoint in zip(*slopes, strict=True):
        assert direct.norm() > 0
        assert (direct - adjoint).norm() < rtol * direct.norm()


def test_adjoint_gradients_by_fixed_steps_approach_the_exact_ones():
    x = torch.ones(1, 3, dtype=F64)
    errors = []
    for steps in (10, 20):
        field = LinearField(slope=0.0)
        y, ladj = Continuous(3, network=field, solver="rk4", steps=steps, gradient="adjoint").call_and_ladj(x)
        (y.sum() + ladj.sum()).backward()
        exact = jacobian(lambda a: (x @ torch.linalg.matrix_exp(a).T).sum() + a.trace(), MATRIX)
        errors.append((field.matrix.grad - exact).norm().item())
    assert errors[1] < 1e-5
    assert errors[0] / errors[1] > 10


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_every_parameter_has_a_gradient(trace, gradient):
    layer = bent(trace=trace, gradient=gradient)
    y, ladj = call_and_ladj(layer, torch.randn(20, 3, dtype=F64))
    parameters = list(layer.parameters())[:-1]  # the last bias moves everything alike and leaves the determinant
    slopes = torch.autograd.grad(ladj.square().sum(), parameters, retain_graph=True)
    slopes += torch.autograd.grad(y.square().sum(), layer.parameters())
    assert all(slope.isfinite().all() and slope.abs().sum() > 0 for slope in slopes)


@pytest.mark.parametrize(
    ("options", "expected"), [({"solver": "rk4", "steps": 7}, 28), ({"solver": "euler"}, 20), ({}, 0)]
)
@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_evaluations_of_the_last_solve_are_counted(options, expected, gradient):
    field = LinearField()
    layer = Continuous(3, network=field, gradient=gradient, **options)
    assert layer.evaluations == 0
    y, _ = layer.call_and_ladj(torch.ones(4, 3, dtype=F64))
    assert layer.evaluations == field.calls == (expected or field.calls)
    before = layer.evaluations
    y.sum().backward()
    assert layer.evaluations == before


def test_an_adaptive_solver_takes_more_evaluations_for_tighter_tolerances_alone():
    x = torch.ones(4, 3, dtype=F64)
    counts = []
    for tolerance in (1e-4, 1e-7, 1e-10):
        layer = bent(rtol=tolerance, atol=tolerance)
        layer(x)
        counts.append(layer.evaluations)
    assert counts[0] < counts[1] < counts[2]


def test_path_costs_have_no_say_in_the_steps():
    """The solve takes as many evaluations as one of values and log-determinants alone."""
    layer, x = bent(), torch.randn(5, 3, dtype=F64)
    y, _ = layer.call_and_ladj(x)
    count = 0

    def slope(t, state):
        nonlocal count
        count += 1
        field = lambda value: layer.velocity(t, value)  # noqa: E731
        rows = torch.stack([jacobian(field, value).trace() for value in state[:, :3]])
        return torch.cat([field(state[:, :3]), rows.unsqueeze(-1)], -1)

    start = torch.cat([x, torch.zeros(5, 1, dtype=F64)], -1)
    times = torch.tensor([0.0, 1.0], dtype=F64)
    torchdiffeq.odeint(slope, start, times, rtol=1e-8, atol=1e-8, method="dopri5", options={"step_t": times[1:]})
    assert layer.evaluations == count
    torch.testing.assert_close(layer(x), y, rtol=1e-6, atol=1e-6)


def test_a_context_changes_the_map_and_is_broadcast():
    layer = bent(context_features=2, solver="dopri8")
    contexts = torch.randn(4, 2, dtype=F64)
    flow = Flow(standard(3), [layer]).condition(contexts)
    assert flow.batch_shape == (4,)
    drawn = flow.rsample((5,))
    assert drawn.shape == (5, 4, 3)
    together = flow.log_prob(drawn.clone())
    alone = [Flow(standard(3), [layer]).condition(each).log_prob(drawn[:, i]) for i, each in enumerate(contexts)]
    torch.testing.assert_close(together, torch.stack(alone, 1), atol=1e-7, rtol=0)
    other = Flow(standard(3), [layer]).condition(contexts[1]).log_prob(drawn[:, 0])
    assert (together[:, 0] - other).abs().max() > 1e-3


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_fixed_steps_are_traced(solver, trace):
    layer, x = bent(solver=solver, steps=2, trace=trace), torch.randn(4, 3, dtype=F64)
    for through in (layer.call_and_ladj, layer.inverse_and_ladj):
        graph = make_fx(functools.partial(through))(x)
        torch.manual_seed(3)
        expected = through(2 * x)
        torch.manual_seed(3)
        torch.testing.assert_close(graph(2 * x), expected)


def test_adaptive_steps_run_eagerly_with_one_warning_and_the_same_numbers():
    fitted = []
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        program, x = ContinuousFlow(2, hidden=(4,)), torch.randn(20, 2)
        if mode == "off":
            fit(program, x, steps=3, compile=mode, progress=False)
        else:
            with pytest.warns(CompileWarning, match="'dopri5' chooses its steps") as warned:
                fit(program, x, steps=3, compile=mode, progress=False)
            assert len(warned) == 1
        fitted.append(program.state_dict())
    assert all(torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])


def test_it_is_copied_and_saved():
    layer, x = bent(), torch.randn(4, 3, dtype=F64)
    y = layer(x)
    other = Continuous(3, (8,)).double()
    other.load_state_dict(layer.state_dict())
    for restored in (other, copy.deepcopy(layer)):
        torch.testing.assert_close(restored(x), y, atol=0, rtol=0)


def test_it_starts_as_the_identity():
    x = torch.randn(5, 3)
    y, ladj = Continuous(3).call_and_ladj(x)
    torch.testing.assert_close(y, x)
    assert torch.equal(ladj, torch.zeros(5))


def test_densities_integrate_to_one():
    line = torch.linspace(-12, 12, 2001, dtype=F64)
    with torch.no_grad():
        density = Flow(standard(1), [bent(1, size=0.6)]).log_prob(line.unsqueeze(-1)).exp()
        assert torch.trapezoid(density, line).item() == pytest.approx(1.0, abs=1e-5)
        axis = torch.linspace(-9, 9, 121, dtype=F64)
        density = Flow(standard(2), [bent(2, size=0.6)]).log_prob(torch.cartesian_prod(axis, axis)).exp()
    total = torch.trapezoid(torch.trapezoid(density.reshape(121, 121), axis), axis)
    assert total.item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Continuous(0), "features=0, expected a positive integer"),
        (lambda: Continuous(2, trace="none"), "trace is 'exact' or 'hutchinson', got 'none'"),
        (lambda: Continuous(2, noise="cauchy"), "'rademacher' or 'gaussian', got 'cauchy'"),
        (lambda: Continuous(2, gradient="both"), "'direct' or 'adjoint', got 'both'"),
        (lambda: Continuous(2, solver="rk5"), "'dopri5', .* or 'rk4', got 'rk5'"),
        (lambda: Continuous(2, solver="rk4", steps=0), "steps=0"),
        (lambda: Continuous(2, rtol=-1.0), "rtol=-1.0, expected a positive number"),
        (lambda: Continuous(2)(torch.ones(4, 3)), r"2 features, got shape \(4, 3\)"),
        (lambda: Continuous(2, context_features=3)(torch.ones(2)), "a context of 3 features, got none"),
        (lambda: Continuous(2).condition(torch.ones(3))(torch.ones(2)), "context of no features, got 3"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(OptionError, match=message):
        call()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (lambda t, x: x * torch.nan, "the solver 'dopri5' of a continuous flow cannot go on: .*not finite.* Remedy"),
        (lambda t, x: 10 * x**2, "cannot go on"),
        (lambda t, x: x * (1e4 * t).cos(), "cannot go on: more than 50 steps are needed"),
    ],
)
def test_a_field_that_cannot_be_followed_is_told(monkeypatch, field, message):
    monkeypatch.setattr(ode, "LONGEST", 50)
    with pytest.raises(NonFiniteError, match=message):
        Continuous(1, network=Function(field))(torch.ones(1))
