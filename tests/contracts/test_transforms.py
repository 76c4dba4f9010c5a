"""What every bijection owes: an inverse, the log-determinant of autodiff, gradients for every parameter, a density."""

import copy
import functools

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.distributions import Flow
from ppl_genmodels.transforms import (
    ActNorm,
    Additive,
    Autoregressive,
    Coupling,
    InvertibleLinear,
    OfChannels,
    Permute,
    Spline,
    Unsqueeze,
    call_and_ladj,
    inverse_and_ladj,
)

VECTOR, IMAGE = (3,), (4, 4, 2)
TRANSFORMS = {
    "affine coupling": (lambda: Coupling(3, (8,)), VECTOR),
    "affine coupling, swapped": (lambda: Coupling(3, (8,), swap=True), VECTOR),
    "additive coupling": (lambda: Coupling(3, (8,), Additive()), VECTOR),
    "spline coupling": (lambda: Coupling(3, (8,), Spline(bins=5, bound=3.0)), VECTOR),
    "masked autoregressive": (lambda: Autoregressive(3, (12,)), VECTOR),
    "inverse autoregressive": (lambda: Autoregressive(3, (12,), fast="sampling"), VECTOR),
    "spline autoregressive": (lambda: Autoregressive(3, (12,), Spline(bins=4)), VECTOR),
    "actnorm": (lambda: ActNorm(3), VECTOR),
    "actnorm of channels": (lambda: ActNorm(4, event_dim=3), IMAGE),
    "linear": (lambda: InvertibleLinear(3), VECTOR),
    "1x1 convolution": (lambda: InvertibleLinear(4, event_dim=3), IMAGE),
    "permutation": (lambda: Permute([2, 0, 1]), VECTOR),
    "permutation of channels": (lambda: Permute([3, 2, 1, 0], event_dim=3), IMAGE),
    "unsqueeze": (Unsqueeze, IMAGE),
    "squeeze": (lambda: Unsqueeze().inv, (1, 4, 4)),
    "of channels": (lambda: OfChannels(InvertibleLinear(2, event_dim=3), 2), IMAGE),
}
DTYPES = {torch.float32: 1e-4, torch.float64: 1e-10}


def made(name, dtype=torch.float64):
    """A transform away from where it starts, and its event shape."""
    torch.manual_seed(0)
    make, shape = TRANSFORMS[name]
    transform = make()
    if isinstance(transform, nn.Module):
        transform.to(dtype)
        with torch.no_grad():
            for parameter in transform.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return transform, shape


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_the_inverse_gives_back_what_went_in(name, dtype, batch):
    transform, shape = made(name, dtype)
    x = 1.5 * torch.randn(*batch, *shape, dtype=dtype)
    y, ladj = call_and_ladj(transform, x)
    back, other = inverse_and_ladj(transform, y)
    assert y.dtype == ladj.dtype == dtype
    assert ladj.shape == other.shape == batch
    torch.testing.assert_close(back, x, atol=DTYPES[dtype], rtol=0)
    torch.testing.assert_close(ladj, other, atol=10 * DTYPES[dtype], rtol=0)
    torch.testing.assert_close(transform(x), y)
    torch.testing.assert_close(transform.inv(y), x, atol=DTYPES[dtype], rtol=0)
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), ladj)
    assert transform.forward_shape(x.shape) == y.shape
    assert transform.inverse_shape(y.shape) == x.shape


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_log_determinant_is_that_of_autodiff(name):
    transform, shape = made(name)
    x = 1.5 * torch.randn(*shape, dtype=torch.float64)
    matrix = jacobian(lambda value: transform(value.reshape(shape)).reshape(-1), x.reshape(-1))
    torch.testing.assert_close(call_and_ladj(transform, x)[1], torch.linalg.slogdet(matrix)[1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_parameter_has_a_gradient(name):
    transform, shape = made(name)
    parameters = list(transform.parameters()) if isinstance(transform, nn.Module) else []
    y, ladj = call_and_ladj(transform, torch.randn(20, *shape, dtype=torch.float64))
    if parameters:
        slopes = torch.autograd.grad((y * torch.randn_like(y)).sum() + ladj.square().sum(), parameters)
        assert all(slope.isfinite().all() and slope.abs().sum() > 0 for slope in slopes)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_is_saved_copied_and_traced(name):
    transform, shape = made(name)
    x = torch.randn(5, *shape, dtype=torch.float64)
    y, _ = call_and_ladj(transform, x)
    torch.testing.assert_close(call_and_ladj(copy.deepcopy(transform), x)[0], y)
    if isinstance(transform, nn.Module):
        other = TRANSFORMS[name][0]().double()
        other.load_state_dict(transform.state_dict())
        torch.testing.assert_close(call_and_ladj(other, x)[0], y)
    for through, value in ((call_and_ladj, x), (inverse_and_ladj, y)):
        graph = make_fx(functools.partial(through, transform))(value)
        torch.testing.assert_close(graph(2 * value), through(transform, 2 * value))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_serves_in_a_distribution(name):
    transform, shape = made(name)
    base = dist.Normal(torch.zeros(shape, dtype=torch.float64), 1.0).to_event(len(shape))
    flow, plain = Flow(base, [transform]), dist.TransformedDistribution(base, [transform])
    drawn = flow.rsample((7,))
    expected = plain.log_prob(drawn)
    torch.testing.assert_close(flow.log_prob(drawn), expected)
    torch.testing.assert_close(flow.log_prob(drawn.clone()), expected)
    assert flow.expand((4, 7)).rsample().shape == (4, 7, *flow.event_shape)
    assert flow.expand((7,)).log_prob(drawn.clone()).shape == (7,)


ONE_NUMBER = {
    "affine": lambda: Autoregressive(1, (4,)),
    "spline": lambda: Autoregressive(1, (4,), Spline(bins=6, bound=3.0)),
    "actnorm": lambda: ActNorm(1),
}


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_densities_of_numbers_integrate_to_one(name):
    torch.manual_seed(1)
    transform = ONE_NUMBER[name]().double()
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    flow = Flow(dist.Normal(torch.zeros(1, dtype=torch.float64), 1.0).to_event(1), [transform])
    grid = torch.linspace(-30, 30, 60001, dtype=torch.float64).unsqueeze(-1)
    assert torch.trapezoid(flow.log_prob(grid).exp(), grid.squeeze(-1)).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", [name for name, (_, shape) in TRANSFORMS.items() if shape == VECTOR])
def test_densities_of_pairs_integrate_to_one(name):
    pairs = {
        "permutation": lambda: Permute([1, 0]),
        "actnorm": lambda: ActNorm(2),
        "linear": lambda: InvertibleLinear(2),
        "affine coupling": lambda: Coupling(2, (8,)),
        "affine coupling, swapped": lambda: Coupling(2, (8,), swap=True),
        "additive coupling": lambda: Coupling(2, (8,), Additive()),
        "spline coupling": lambda: Coupling(2, (8,), Spline(bins=5, bound=3.0)),
        "masked autoregressive": lambda: Autoregressive(2, (12,)),
        "inverse autoregressive": lambda: Autoregressive(2, (12,), fast="sampling"),
        "spline autoregressive": lambda: Autoregressive(2, (12,), Spline(bins=4)),
    }
    torch.manual_seed(1)
    transform = pairs[name]().double()
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    flow = Flow(dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1), [transform])
    axis = torch.linspace(-14, 14, 701, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = flow.log_prob(grid).exp().reshape(701, 701).detach()
    assert torch.trapezoid(torch.trapezoid(density, axis), axis).item() == pytest.approx(1.0, abs=1e-3)
