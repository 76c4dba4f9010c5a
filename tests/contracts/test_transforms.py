"""What every bijection owes: an inverse, the log-determinant of autodiff, gradients for every parameter, a density."""

import copy
import functools

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.distributions.transforms import IndependentTransform
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.distributions import Flow
from ppl_genmodels.transforms import (
    ActNorm,
    Additive,
    Autoregressive,
    BatchNorm,
    ChannelCoupling,
    CheckerboardCoupling,
    Continuous,
    Coupling,
    InvertibleLinear,
    OfChannels,
    Permute,
    PixelSigmoid,
    Planar,
    Residual,
    Spline,
    Unsqueeze,
    Whitening,
    call_and_ladj,
    first_data,
    inverse_and_ladj,
)

OF_VECTORS = {
    "affine coupling": lambda n: Coupling(n, (8,)),
    "affine coupling, swapped": lambda n: Coupling(n, (8,), swap=True),
    "additive coupling": lambda n: Coupling(n, (8,), Additive()),
    "spline coupling": lambda n: Coupling(n, (8,), Spline(bins=5, bound=3.0)),
    "masked autoregressive": lambda n: Autoregressive(n, (12,)),
    "inverse autoregressive": lambda n: Autoregressive(n, (12,), fast="sampling"),
    "spline autoregressive": lambda n: Autoregressive(n, (12,), Spline(bins=4)),
    "residual": lambda n: Residual(n, (12, 12)),
    "continuous": lambda n: Continuous(n, (8,)),
    "actnorm": ActNorm,
    "batch norm": BatchNorm,
    "whitening": Whitening,
    "linear": InvertibleLinear,
    "planar": Planar,
    "permutation": lambda n: Permute(list(range(n))[::-1]),
}
"""By their number of features."""
OF_IMAGES = {
    "actnorm of channels": (lambda: ActNorm(4, event_dim=3), (4, 4, 2)),
    "batch norm of channels": (lambda: BatchNorm(4, event_dim=3), (4, 4, 2)),
    "1x1 convolution": (lambda: InvertibleLinear(4, event_dim=3), (4, 4, 2)),
    "permutation of channels": (lambda: Permute([3, 2, 1, 0], event_dim=3), (4, 2, 6)),
    "unsqueeze": (Unsqueeze, (4, 4, 2)),
    "squeeze": (lambda: Unsqueeze().inv, (1, 4, 4)),
    "channel coupling": (lambda: ChannelCoupling(4, 6), (4, 4, 2)),
    "channel coupling, swapped": (lambda: ChannelCoupling(4, 6, swap=True), (4, 4, 2)),
    "spline channel coupling": (lambda: ChannelCoupling(4, 6, Spline(bins=4, bound=3.0)), (4, 4, 2)),
    "checkerboard coupling": (lambda: CheckerboardCoupling(4, 6), (4, 4, 2)),
    "additive checkerboard coupling, swapped": (lambda: CheckerboardCoupling(4, 6, Additive(), swap=True), (4, 4, 2)),
    "channel coupling of three": (lambda: ChannelCoupling(3, 6), (3, 3, 5)),
    "checkerboard coupling of one": (lambda: CheckerboardCoupling(1, 6), (1, 3, 5)),
    "pixels": (lambda: IndependentTransform(PixelSigmoid(256), 3), (1, 4, 4)),
    "of channels": (lambda: OfChannels(InvertibleLinear(2, event_dim=3), 2), (4, 4, 2)),
}
"""With the shape of their images."""
TRANSFORMS = OF_IMAGES | {
    f"{name} of {n}": (functools.partial(make, n), (n,)) for name, make in OF_VECTORS.items() for n in (2, 5)
}
NEED_TWO = ("coupling",)
"""Layers of vectors that a single number cannot pass."""
DTYPES = {torch.float32: 1e-4, torch.float64: 1e-10}
BY_SOLVER = {torch.float32: 1e-3, torch.float64: 1e-6}
"""What is allowed for layers that an adaptive solver follows, whose tolerances are 1e-5 and 1e-8 for each step."""
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]


def moved(transform, shape, dtype=torch.float64, size=0.3):
    """A transform away from where it starts, as it is after training."""
    if isinstance(transform, nn.Module):
        transform.to(dtype)
        with torch.no_grad(), first_data():
            inverse_and_ladj(transform, 1 + 2 * torch.randn(20, *shape, dtype=dtype))
            for parameter in transform.parameters():
                parameter.add_(size * torch.randn_like(parameter))
        transform.eval()
    return transform


def by_solver(name):
    """Whether a solver of differential equations follows the layer, in steps of its own choice."""
    return "continuous" in name


def tolerance(name, dtype=torch.float64):
    """Of values and log-determinants."""
    return (BY_SOLVER if by_solver(name) else DTYPES)[dtype]


def made(name, dtype=torch.float64):
    """A transform of the table, and its event shape."""
    torch.manual_seed(0)
    make, shape = TRANSFORMS[name]
    return moved(make(), shape, dtype), shape


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("device", DEVICES)
def test_the_inverse_gives_back_what_went_in(name, dtype, device):
    transform, shape = made(name, dtype)
    if isinstance(transform, nn.Module):
        transform.to(device)
    for batch in ((), (5,), (2, 3)):
        x = 1.5 * torch.randn(*batch, *shape, dtype=dtype).to(device)
        y, ladj = call_and_ladj(transform, x)
        back, other = inverse_and_ladj(transform, y)
        assert y.dtype == ladj.dtype == dtype
        assert y.device.type == ladj.device.type == device
        assert ladj.shape == other.shape == batch
        torch.testing.assert_close(back, x, atol=tolerance(name, dtype), rtol=0)
        torch.testing.assert_close(ladj, other, atol=10 * tolerance(name, dtype), rtol=0)
        torch.testing.assert_close(transform(x), y)
        torch.testing.assert_close(transform.inv(y), x, atol=tolerance(name, dtype), rtol=0)
        torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), ladj)
        assert transform.forward_shape(x.shape) == y.shape
        assert transform.inverse_shape(y.shape) == x.shape


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_log_determinant_is_that_of_autodiff(name):
    transform, shape = made(name)
    x = 1.5 * torch.randn(*shape, dtype=torch.float64)
    matrix = jacobian(lambda value: transform(value.reshape(shape)).reshape(-1), x.reshape(-1))
    found = call_and_ladj(transform, x)[1]
    torch.testing.assert_close(found, torch.linalg.slogdet(matrix)[1], atol=10 * tolerance(name), rtol=1e-9)
    y = transform(x).detach()
    back = jacobian(lambda value: transform.inv(value.reshape(y.shape)).reshape(-1), y.reshape(-1))
    torch.testing.assert_close(
        back @ matrix, torch.eye(len(matrix), dtype=torch.float64), atol=10 * tolerance(name), rtol=0
    )


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("through", [call_and_ladj, inverse_and_ladj])
def test_every_parameter_has_a_gradient(name, through):
    transform, shape = made(name)
    parameters = list(transform.parameters()) if isinstance(transform, nn.Module) else []
    value = torch.randn(20, *shape, dtype=torch.float64)
    image, ladj = through(transform, value if through is call_and_ladj else transform(value).detach())
    if parameters:
        slopes = torch.autograd.grad((image * torch.randn_like(image)).sum() + ladj.square().sum(), parameters)
        assert all(slope.isfinite().all() and slope.abs().sum() > 0 for slope in slopes)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_is_saved_copied_and_traced(name):
    transform, shape = made(name)
    x = torch.randn(5, *shape, dtype=torch.float64)
    y, _ = call_and_ladj(transform, x)
    torch.testing.assert_close(call_and_ladj(copy.deepcopy(transform), x)[0], y)
    if isinstance(transform, nn.Module):
        other = TRANSFORMS[name][0]().double().eval()
        other.load_state_dict(transform.state_dict())
        torch.testing.assert_close(call_and_ladj(other, x)[0], y)
    if by_solver(name):
        return  # the number of steps is read off the values: what is traced is a solver with fixed steps
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
    torch.testing.assert_close(flow.log_prob(drawn.clone()), expected, atol=10 * tolerance(name), rtol=1e-9)
    assert flow.expand((4, 7)).rsample().shape == (4, 7, *flow.event_shape)
    assert flow.expand((7,)).log_prob(drawn.clone()).shape == (7,)


def density_of(name, features):
    torch.manual_seed(1)
    transform = moved(OF_VECTORS[name](features), (features,), size=0.2)
    return Flow(dist.Normal(torch.zeros(features, dtype=torch.float64), 1.0).to_event(1), [transform])


@pytest.mark.parametrize("name", [name for name in OF_VECTORS if not any(kind in name for kind in NEED_TWO)])
def test_densities_of_numbers_integrate_to_one(name):
    grid = torch.linspace(-30, 30, 20001, dtype=torch.float64).unsqueeze(-1)
    density = density_of(name, 1).log_prob(grid).exp()
    assert torch.trapezoid(density, grid.squeeze(-1)).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_densities_of_pairs_integrate_to_one(name):
    axis = torch.linspace(-20, 20, 401, dtype=torch.float64)
    with torch.no_grad():
        density = density_of(name, 2).log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(401, 401)
    assert torch.trapezoid(torch.trapezoid(density, axis), axis).item() == pytest.approx(1.0, abs=1e-3)
