"""The logistic map of pixels: its inverse, its log-derivative by autodiff, its numbers far out."""

import functools
import math

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms import PixelSigmoid, call_and_ladj, inverse_and_ladj

MAPS = [PixelSigmoid(256), PixelSigmoid(4, 0.0), PixelSigmoid(1, 0.0), PixelSigmoid(17, 0.2)]


@pytest.mark.parametrize("pixels", MAPS)
def test_it_is_the_formula_and_its_inverse_the_preprocessing(pixels):
    y = torch.linspace(-4, 4, 41, dtype=torch.float64)
    v, _ = call_and_ladj(pixels, y)
    share = pixels.margin + (1 - 2 * pixels.margin) * v / pixels.levels
    torch.testing.assert_close(share, torch.sigmoid(y))
    torch.testing.assert_close(pixels.inv(v), y)
    torch.testing.assert_close(torch.logit(share), inverse_and_ladj(pixels, v)[0])


@pytest.mark.parametrize("pixels", MAPS)
def test_the_log_derivative_is_that_of_autodiff(pixels):
    y = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    v, ladj = call_and_ladj(pixels, y)
    (slope,) = torch.autograd.grad(v.sum(), y)
    torch.testing.assert_close(ladj, slope.log())
    torch.testing.assert_close(inverse_and_ladj(pixels, v)[1], slope.log())
    torch.testing.assert_close(pixels.log_abs_det_jacobian(y, v), slope.log())


def test_single_precision_keeps_the_log_derivative_far_out():
    y = torch.tensor([-80.0, -30.0, 30.0, 80.0])
    expected = -y.abs() + math.log(256 / 0.9)
    torch.testing.assert_close(call_and_ladj(PixelSigmoid(256), y)[1], expected)


@pytest.mark.parametrize("pixels", MAPS)
def test_values_at_the_ends_have_finite_logits_and_gradients(pixels):
    v = torch.tensor([0.0, float(pixels.levels)], requires_grad=True)
    y, ladj = inverse_and_ladj(pixels, v)
    (slope,) = torch.autograd.grad((y + ladj).sum(), v)
    assert y.isfinite().all()
    assert ladj.isfinite().all()
    assert slope.isfinite().all()
    assert pixels.codomain.check(v.detach()).all()


def test_pixels_of_256_levels_come_back_in_single_precision():
    v = torch.linspace(0.0, 256.0, 10001)
    pixels = PixelSigmoid(256)
    torch.testing.assert_close(pixels(pixels.inv(v)), v, atol=1e-4, rtol=0)


def test_it_is_traced():
    y = torch.randn(5)
    for through in (call_and_ladj, inverse_and_ladj):
        graph = make_fx(functools.partial(through, PixelSigmoid(4)))(y)
        torch.testing.assert_close(graph(0.5 * y), through(PixelSigmoid(4), 0.5 * y))


def test_equal_maps_are_equal():
    assert PixelSigmoid(4) == PixelSigmoid(4)
    assert PixelSigmoid(4) != PixelSigmoid(4, 0.1)
    assert len({PixelSigmoid(4), PixelSigmoid(4), PixelSigmoid(5)}) == 2


@pytest.mark.parametrize("margin", [-0.1, 0.5, float("nan")])
def test_margins_out_of_range_are_refused(margin):
    with pytest.raises(OptionError, match=r"margin=.*Remedy"):
        PixelSigmoid(4, margin)
