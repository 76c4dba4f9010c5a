r"""Quantiles found by numbers, with gradients that are known without differentiating the search.

Convention of this module: :math:`z = F^{-1}(u; \theta)` is found on detached values by a fixed count of steps, nothing
of which depends on a value in Python. The gradient is attached to what was found:

.. math:: \frac{\partial z}{\partial u} = \frac{1}{p(z)}, \quad
    \frac{\partial z}{\partial \theta} = -\frac{\partial F(z; \theta) / \partial \theta}{p(z)}

It is that of first order alone. All is computed and given in double precision.

References:
    Figurnov, Mohamed and Mnih (2018), Implicit Reparameterization Gradients, equations 4 and 5.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["log_gamma_quantile", "poisson_quantile", "von_mises_cdf", "von_mises_quantile"]

_GAMMA_STEPS = 6
_VON_MISES_STEPS = 6
_POISSON_STEPS = 26
_TINY = 1e-300
_NODES = 24
_TAIL = 1e-13


def log_gamma_quantile(uniform: Tensor, concentration: Tensor) -> Tensor:
    r"""The logarithm of the quantile of a Gamma with rate one, which does not underflow at small concentrations.

    Newton's steps on :math:`\log F` below the median and on :math:`\log(1 - F)` above: both are concave in :math:`\log
    z`, so that steps go past the solution once and then towards it. The derivative in the concentration is torch's
    own, whose relative error is up to :math:`5 \cdot 10^{-4}`, and in tails that hold less than a hundredth up to
    :math:`4 \cdot 10^{-3}`.

    Args:
        uniform: Strictly between 0 and 1.
        concentration: Positive; broadcasts with the uniforms.

    References:
        Wilson and Hilferty (1931), The Distribution of Chi-Square, for the first point.

    Example:
        >>> log_gamma_quantile(torch.tensor(0.5), torch.tensor(1.0)).exp()  # log 2
        tensor(0.6931, dtype=torch.float64)
    """
    uniform, concentration = torch.broadcast_tensors(uniform.double(), concentration.double())
    u, shape = uniform.detach(), concentration.detach()
    near_zero = (u.log() + torch.lgamma(shape + 1)) / shape
    y = _solve_gamma(u, shape, near_zero)
    underflows = near_zero < -60.0  # there the first term of the series is all
    z = torch.where(underflows, torch.ones_like(y), y).exp()
    by_uniform = (torch.lgamma(shape) + y.exp() - shape * y).exp()
    of_series = (torch.digamma(shape + 1) - near_zero) / shape
    by_shape = torch.where(underflows, of_series, torch._standard_gamma_grad(shape, z) / z)
    return _with_gradient(y, (uniform, by_uniform), (concentration, by_shape))


def _solve_gamma(u: Tensor, shape: Tensor, near_zero: Tensor) -> Tensor:
    below = u < 0.5
    target = torch.where(below, u, 1 - u).log()
    cube = 1 - 1 / (9 * shape) + torch.special.ndtri(u) / (3 * shape.sqrt())
    wilson_hilferty = shape.log() + 3 * cube.clamp(min=0.3).log()
    y = torch.where(cube > 0.3, torch.maximum(near_zero, wilson_hilferty), near_zero)
    for _ in range(_GAMMA_STEPS):
        z = y.exp()
        tail = torch.where(below, torch.special.gammainc(shape, z), torch.special.gammaincc(shape, z)).clamp(min=_TINY)
        hazard = (shape * y - z - torch.lgamma(shape)).exp() / tail
        step = (target - tail.log()) / hazard.clamp(min=_TINY)
        step = torch.where(below, step, -step).clamp(-2.0, 2.0)
        y = torch.where(near_zero < -60.0, near_zero, y + step)
    return y


def von_mises_quantile(uniform: Tensor, concentration: Tensor) -> Tensor:
    r"""The quantile of the angle from its mean, in :math:`[-\pi, \pi]`, of a von Mises distribution.

    Newton's steps, bisecting where they would leave what is known to hold the solution. Tails that hold less than
    :math:`10^{-13}` are left out.

    Args:
        uniform: Strictly between 0 and 1.
        concentration: Positive; broadcasts with the uniforms.

    Example:
        >>> von_mises_quantile(torch.tensor([0.25, 0.5]), torch.tensor(1e-6))  # all but uniform on the circle
        tensor([-1.5708,  0.0000], dtype=torch.float64)
    """
    uniform, concentration = torch.broadcast_tensors(uniform.double(), concentration.double())
    k, area = concentration.detach(), (uniform.detach() - 0.5).clamp(_TAIL - 0.5, 0.5 - _TAIL)
    angle = _solve_von_mises(area.abs(), k) * area.sign()
    density = _von_mises(angle, k)[1].clamp(min=_TINY)
    return _with_gradient(angle, (uniform, 1 / density), (concentration, -_by_concentration(angle, k) / density))


def von_mises_cdf(angle: Tensor, concentration: Tensor) -> Tensor:
    r"""The distribution function of the angle from its mean, for angles in :math:`[-\pi, \pi]`; without gradient.

    Example:
        >>> von_mises_cdf(torch.tensor(0.0), torch.tensor(3.0))
        tensor(0.5000, dtype=torch.float64)
    """
    return 0.5 + _von_mises(*torch.broadcast_tensors(angle.detach().double(), concentration.detach().double()))[0]


def _solve_von_mises(area: Tensor, k: Tensor) -> Tensor:
    """The angle whose interval from the mean holds so much, at most a half; within 9.5 standard deviations."""
    low, high = torch.zeros_like(area), (9.5 / k.sqrt()).clamp(max=math.pi)
    normal = torch.special.ndtri(0.5 + area)
    like_normal = 2 * torch.asin((normal / (2 * (k + 0.2).sqrt())).clamp(max=1.0))
    x = torch.minimum(torch.where(k > 1, like_normal, 2 * math.pi * area), high)
    for _ in range(_VON_MISES_STEPS):
        found, density = _von_mises(x, k)
        low, high = torch.where(found < area, x, low), torch.where(found < area, high, x)
        newton = x - (found - area) / density.clamp(min=_TINY)
        x = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
    return x


def _von_mises(angle: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """What lies between the mean and the angle, and the density there."""
    _, density = _between(angle, k)
    at_angle = (-2 * k * torch.sin(angle / 2).square()).exp() / _normalizer(k)
    return density.sum(-1) * angle / _normalizer(k), at_angle


def _by_concentration(angle: Tensor, k: Tensor) -> Tensor:
    """The derivative in the concentration of what lies between the mean and the angle."""
    half, density = _between(angle, k)
    mean_cosine = torch.special.i1e(k) / torch.special.i0e(k)
    return (density * (1 - 2 * half - mean_cosine.unsqueeze(-1))).sum(-1) * angle / _normalizer(k)


def _between(angle: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """At each node between the mean and the angle the squared sine of half of it, and the weighted density."""
    nodes, weights = (torch.from_numpy(each).to(angle.device) for each in _gauss_legendre())
    half = torch.sin(angle.unsqueeze(-1) * nodes / 2).square()
    return half, (-2 * k.unsqueeze(-1) * half).exp() * weights


def _normalizer(k: Tensor) -> Tensor:
    return 2 * math.pi * torch.special.i0e(k)


@cache
def _gauss_legendre() -> tuple[Any, Any]:
    """Nodes on the unit interval and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, weights / 2


def poisson_quantile(uniform: Tensor, rate: Tensor) -> Tensor:
    """The least count whose distribution function reaches a uniform; without gradient.

    By bisection, for rates up to ten million.

    Example:
        >>> poisson_quantile(torch.tensor([0.1, 0.9]), torch.tensor(3.0))
        tensor([1., 5.], dtype=torch.float64)
    """
    u, rate = torch.broadcast_tensors(uniform.detach().double(), rate.detach().double())
    low, high = -torch.ones_like(u), (rate + 12 * rate.sqrt() + 60).ceil()
    for _ in range(_POISSON_STEPS):
        middle = ((low + high) / 2).floor()
        reached = torch.special.gammaincc(middle.clamp(min=-0.5) + 1, rate) >= u
        reached = reached & (middle >= 0)
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return high


def _with_gradient(value: Tensor, *slopes: tuple[Tensor, Tensor]) -> Tensor:
    """A value with a slope in each of the inputs."""
    for of, slope in slopes:
        value = value + slope * (of - of.detach())
    return value
