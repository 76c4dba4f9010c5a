"""Quantiles found by numbers: beside SciPy's, their gradients beside finite differences of those, their extremes."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.distributions.implicit import (
    log_gamma_quantile,
    poisson_quantile,
    von_mises_cdf,
    von_mises_quantile,
)

U = np.array([1e-6, 1e-3, 0.02, 0.1, 0.3, 0.4999, 0.5, 0.7, 0.9, 0.98, 0.999, 1 - 1e-6])
SHAPES = [0.05, 0.2, 0.5, 1.0, 1.5, 5.0, 10.0, 100.0, 1000.0]
KAPPAS = [0.01, 0.3, 1.0, 3.0, 10.0, 40.0]
TORCH_GAMMA_GRADIENT = 5e-4
"""The relative error that torch's own tests allow its derivative of a Gamma draw."""


def log_quantile(shape):
    return np.log(np.where(U < 0.5, special.gammaincinv(shape, U), special.gammainccinv(shape, 1 - U)))


def slope(function, at, step):
    """The central difference of fourth order, whose error is of the order of step^4 and of rounding / step."""
    near, far = (function(at + k * step) - function(at - k * step) for k in (1, 2))
    return (8 * near - far) / (12 * step)


def gradients(quantile, parameter):
    uniform = torch.tensor(U, requires_grad=True)
    parameter = torch.full_like(uniform, parameter).requires_grad_()
    value = quantile(uniform, parameter)
    return value.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(value.sum(), (uniform, parameter)))


@pytest.mark.parametrize("shape", SHAPES)
def test_gamma_quantiles_are_scipys(shape):
    """The search ends where rounding does; torch's and SciPy's functions agree to 1e-9 relative or better."""
    value, *_ = gradients(log_gamma_quantile, shape)
    np.testing.assert_allclose(value, log_quantile(shape), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_gamma_gradients_are_those_of_finite_differences(shape):
    value, by_uniform, by_shape = gradients(log_gamma_quantile, shape)
    usual = (U >= 0.02) & (U <= 0.98)
    expected = slope(log_quantile, shape, 1e-3 * shape)
    np.testing.assert_allclose(by_shape[usual], expected[usual], rtol=TORCH_GAMMA_GRADIENT)
    np.testing.assert_allclose(by_shape[~usual], expected[~usual], rtol=8 * TORCH_GAMMA_GRADIENT)
    density = stats.gamma.logpdf(np.exp(value), shape) + value
    np.testing.assert_allclose(by_uniform, np.exp(-density), rtol=1e-8)


@pytest.mark.parametrize("shape", [0.003, 0.01])
def test_logs_of_draws_that_underflow_are_those_of_the_series(shape):
    """P(z) = z^a / Gamma(a + 1) where z is below 1e-26."""
    uniform = torch.tensor([1e-7, 0.01, 0.3])
    parameter = torch.full((3,), shape, dtype=torch.float64, requires_grad=True)
    value = log_gamma_quantile(uniform, parameter)
    u = uniform.double().numpy()
    np.testing.assert_allclose(value.detach(), (np.log(u) + special.gammaln(shape + 1)) / shape, rtol=1e-12)
    (found,) = torch.autograd.grad(value.sum(), parameter)
    expected = slope(lambda a: (np.log(u) + special.gammaln(a + 1)) / a, shape, 1e-3 * shape)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def exact_von_mises(kappa):
    """By adaptive quadrature and Brent's search."""

    def cdf(x):
        scale = 2 * math.pi * special.i0e(kappa)
        return 0.5 + integrate.quad(lambda t: math.exp(kappa * (math.cos(t) - 1)) / scale, 0, x, epsabs=1e-14)[0]

    return [optimize.brentq(lambda x, u=u: cdf(x) - u, -math.pi, math.pi, xtol=1e-14) for u in U]


@pytest.mark.parametrize("kappa", [*KAPPAS, 200.0, 1000.0])
def test_von_mises_quantiles_solve_the_integral(kappa):
    """In units of the density: both sides have errors of 1e-13 in the area, by which the angle is off by 1e-13 / p."""
    value, by_uniform, _ = gradients(von_mises_quantile, kappa)
    found, expected = value, np.array(exact_von_mises(kappa))
    assert (np.abs(found - expected) < 1e-12 * by_uniform + 1e-12).all()
    np.testing.assert_allclose(von_mises_cdf(torch.tensor(expected), torch.tensor(kappa)), U, atol=1e-12)


@pytest.mark.parametrize("kappa", [0.01, 1.0, 10.0, 1000.0])
def test_von_mises_gradients_are_those_of_finite_differences(kappa):
    """Differences of quantiles that are off by 1e-12 / p are off by 1e-12 / (p step)."""
    _, by_uniform, by_kappa = gradients(von_mises_quantile, kappa)
    step = 3e-3 * kappa
    expected = slope(lambda k: np.array(exact_von_mises(k)), kappa, step)
    assert (np.abs(by_kappa - expected) < 2e-12 * by_uniform / step + 1e-7 * np.abs(expected) + 1e-12).all()


@pytest.mark.parametrize("rate", [1e-3, 0.5, 3.0, 30.0, 1000.0, 1e6])
def test_poisson_quantiles_are_scipys(rate):
    found = poisson_quantile(torch.tensor(U), torch.tensor(rate, dtype=torch.float64))
    np.testing.assert_array_equal(found, stats.poisson.ppf(U, rate))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("quantile", [log_gamma_quantile, von_mises_quantile])
def test_nothing_is_nan_between_extremes(quantile, dtype):
    parameter = torch.logspace(-2, 5, 15, dtype=dtype).unsqueeze(-1).requires_grad_()
    least = torch.finfo(dtype).eps / 2
    uniform = torch.tensor([least, 1e-6, 0.5, 1 - 1e-6, 1 - least], dtype=dtype)
    value = quantile(uniform, parameter)
    (slope,) = torch.autograd.grad(value.sum(), parameter)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    assert (value.diff(dim=-1) > 0).all()


@pytest.mark.parametrize("quantile", [log_gamma_quantile, von_mises_quantile, poisson_quantile])
def test_a_traced_quantile_serves_other_values(quantile):
    """Value and gradient, from a graph that was made elsewhere."""

    def both(uniform, parameter):
        value = quantile(uniform, parameter)
        slopes = torch.autograd.grad(value.sum(), parameter) if value.requires_grad else ()
        return value.detach(), *slopes

    def inputs(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(5, generator=generator), torch.rand(5, generator=generator).add(0.1).requires_grad_()

    graph = make_fx(both)(*inputs(0))
    for traced, eager in zip(graph(*inputs(1)), both(*inputs(1)), strict=True):
        torch.testing.assert_close(traced, eager)
