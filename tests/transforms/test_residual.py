"""Residual layers: the bound truly holds, the solution has its gradient, and the series has no bias."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels import fit
from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms import ActNorm, Residual
from ppl_genmodels.transforms.lipschitz import LipschitzMLP, evaluate, spectral_bound


def steep(features=3, lipschitz=0.9, **options):
    """A layer whose Jacobian nearly reaches the bound in many places."""
    torch.manual_seed(0)
    layer = Residual(features, (features, features), lipschitz, **options).double()
    with torch.no_grad():
        for linear in layer.network.layers:
            linear.weight.copy_(10 * torch.linalg.qr(torch.randn(features, features)).Q)
            linear.bias.copy_(1.5 + 0.5 * torch.randn(features))
    return layer


def jacobians(layer, y):
    """Of the contraction, at each row."""
    identity = torch.eye(y.shape[-1], dtype=y.dtype)
    return torch.stack([jacobian(layer.inv, row) - identity for row in y])


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (64, 64), (5, 200), (200, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", ["random", "one direction", "rotation"])
def test_the_spectral_bound_is_from_above_and_tight(shape, dtype, spread):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=dtype)
    if spread == "one direction":
        matrix = 1e-3 * matrix[:, :1] @ matrix[:1]
    if spread == "rotation":
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        matrix = 1e3 * left @ right
    exact = torch.linalg.matrix_norm(matrix, ord=2)
    bound, rounding = spectral_bound(matrix), 20 * torch.finfo(dtype).eps
    assert exact * (1 - rounding) <= bound <= exact * (1.0101 + rounding)


def test_the_spectral_bound_has_the_gradient_of_the_norm_where_one_direction_leads():
    torch.manual_seed(0)
    u, v = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64)).Q.T
    matrix = (torch.outer(u, v) + 1e-2 * torch.outer(v, u)).requires_grad_()
    (slope,) = torch.autograd.grad(spectral_bound(matrix), matrix)
    torch.testing.assert_close(slope, torch.outer(u, v), atol=1e-6, rtol=0)


@pytest.mark.parametrize("lipschitz", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_no_two_points_come_nearer_than_the_bound_allows(lipschitz, size):
    torch.manual_seed(0)
    network = LipschitzMLP(4, (32, 32), lipschitz)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(size * torch.randn_like(parameter))
        layers = network()
        y = 3 * torch.randn(2000, 4)
        other = y + torch.randn(2000, 4) * torch.logspace(-2, 1, 2000).unsqueeze(-1)
        change = (evaluate(y, layers)[0] - evaluate(other, layers)[0]).norm(dim=-1)
    assert (change <= lipschitz * (y - other).norm(dim=-1) * (1 + 1e-4) + 1e-6).all()


def test_the_bound_is_nearly_reached():
    y = 2 * torch.randn(50, 3, dtype=torch.float64)
    norms = torch.linalg.matrix_norm(jacobians(steep(), y), ord=2)
    assert 0.75 < norms.max() <= 0.9


@pytest.mark.parametrize("lipschitz", [0.3, 0.9, 0.98])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_the_inverse_is_found_where_the_contraction_is_weak(lipschitz, dtype, tolerance):
    layer = steep(lipschitz=lipschitz).to(dtype)
    y = 5 * torch.randn(100, 3, dtype=dtype)
    torch.testing.assert_close(layer(layer.inv(y)), y, atol=tolerance, rtol=0)
    assert layer(torch.zeros(0, 3, dtype=dtype)).shape == (0, 3)


def test_the_solution_has_the_gradient_of_finite_differences():
    """Of value and log-determinant together, by the value and by each parameter."""
    layer, x = steep(), torch.randn(5, 3, dtype=torch.float64)
    towards = torch.randn(5, 3, dtype=torch.float64)

    def of(x, *values):
        found, ladj = torch.func.functional_call(Both(layer), dict(zip(names, values, strict=True)), (x,))
        return (found * towards).sum() + ladj.square().sum()

    names = [f"layer.{name}" for name, _ in layer.named_parameters()]
    inputs = [x, *(parameter.detach().clone() for parameter in layer.parameters())]
    assert torch.autograd.gradcheck(of, [each.requires_grad_() for each in inputs], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("log_det", ["exact", "series"])
def test_without_hidden_layers_the_contraction_is_linear(log_det):
    torch.manual_seed(0)
    layer, y = Residual(1, (), log_det=log_det).eval().double(), torch.randn(7, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.network.layers[0].weight.fill_(0.5)
    x, ladj = layer.inverse_and_ladj(y)
    torch.testing.assert_close(x, 1.5 * y)
    torch.testing.assert_close(ladj, torch.full((7,), -math.log(1.5), dtype=torch.float64))


class Both(nn.Module):
    """A layer as a function from noise to value and log-determinant."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer.call_and_ladj(x)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
@pytest.mark.parametrize("training", [True, False])
def test_the_series_has_the_expectation_of_the_exact_one_in_value_and_gradient(noise, training):
    """Over calls, each of which draws one length for all rows."""
    exact, series = steep(), steep(log_det="series", noise=noise).train(training)
    y = torch.randn(1, 3, dtype=torch.float64)
    found = []
    rows, calls = (y.expand(4, 3), 600) if training else (y.expand(200, 3), 20)
    for _ in range(calls):
        ladj = series.inverse_and_ladj(rows)[1]
        slopes = torch.autograd.grad(ladj.mean(), list(series.parameters()), allow_unused=True)
        found.append(torch.cat([ladj.mean().reshape(1), *(s.flatten() for s in slopes if s is not None)]).detach())
    ladj = exact.inverse_and_ladj(y)[1]
    slopes = torch.autograd.grad(ladj.mean(), list(exact.parameters()), allow_unused=True)
    expected = torch.cat([ladj.detach(), *(slope.flatten() for slope in slopes if slope is not None)])
    drawn = torch.stack(found)
    standard_error = drawn.std(0) / len(drawn) ** 0.5
    scores = (drawn.mean(0) - expected).abs() / standard_error.clamp(min=1e-12)
    assert expected.abs().max() > 0.1
    assert (standard_error < 0.1 * expected.abs().max()).all()
    assert (scores < 5).all()  # of some forty numbers at once


def test_in_evaluation_the_series_leaves_out_less_than_rounding():
    """In one dimension a trace is no estimate."""
    exact, series = steep(1).eval(), steep(1, log_det="series").eval()
    y = torch.linspace(-3, 3, 20, dtype=torch.float64).unsqueeze(-1)
    torch.testing.assert_close(series.inverse_and_ladj(y)[1], exact.inverse_and_ladj(y)[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_a_series_is_traced_with_its_random_length(training):
    """A graph gives the numbers of the eager run, whatever the length that it draws."""
    layer, y = steep(log_det="series").train(training), torch.randn(4, 3, dtype=torch.float64)
    for through in (layer.inverse_and_ladj, layer.call_and_ladj):
        graph = make_fx(functools.partial(gradient, layer, through))(y)
        for seed in range(4):
            torch.manual_seed(seed)
            expected = gradient(layer, through, y)
            torch.manual_seed(seed)
            torch.testing.assert_close(graph(y), expected)


def gradient(layer, through, value):
    image, ladj = through(value)
    return [image.detach(), *torch.autograd.grad(image.sum() + ladj.sum(), list(layer.parameters()))]


class Ring(nn.Module):
    """A density of pairs by residual layers."""

    def __init__(self, log_det):
        super().__init__()
        parts = [part for _ in range(2) for part in (Residual(2, (16,), 0.95, log_det), ActNorm(2))]
        self.layers = nn.ModuleList(parts)
        self.register_buffer("zeros", torch.zeros(2))

    def model(self, x=None):
        base = dist.Normal(self.zeros, 1.0).to_event(1)
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", Flow(base, self.layers), obs=x)


@pytest.mark.parametrize(("log_det", "mode"), [("exact", "off"), ("series", "trace")])
def test_it_is_fitted_and_beats_the_gaussian(log_det, mode):
    torch.manual_seed(0)
    angle = 2 * torch.pi * torch.rand(600)
    ring = torch.stack([angle.cos(), angle.sin()], -1) + 0.1 * torch.randn(600, 2)
    options = {"optimizer": lambda p: torch.optim.Adam(p, 2e-2, fused=True), "progress": False, "compile": mode}
    result = fit(Ring(log_det), ring[:500], steps=120, batch_size=100, **options)
    gaussian = dist.MultivariateNormal(ring[:500].mean(0), ring[:500].T.cov()).log_prob(ring[500:])
    gain = result.log_evidence(ring[500:]).cpu() - gaussian
    assert gain.mean() > 4 * gain.std() / 100**0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Residual(2, log_det="trace"), "log_det is 'exact' or 'series', got 'trace'"),
        (lambda: Residual(2, noise="uniform"), "noise is 'rademacher' or 'gaussian', got 'uniform'"),
        (lambda: Residual(2, lipschitz=1.0), "Residual: lipschitz=1.0, expected between 0 and 1"),
        (lambda: Residual(0), "features=0"),
        (lambda: Residual(2, lipschitz=math.nan), "lipschitz=nan"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(OptionError, match=message):
        call()
