"""The families whose draws are made from noise, and how each is: leaves of what ``noise`` looks up.

Convention of this module: noise is standard normal, uniform on the unit interval, or standard Gumbel. Distributions
with several sources of noise for one element have uniforms in a last dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
import torch.distributions as torch_dist
from torch import Tensor
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from ppl_genmodels.distributions.implicit import log_gamma_quantile, poisson_quantile, von_mises_quantile
from ppl_genmodels.distributions.relaxation import Bit
from ppl_genmodels.distributions.relaxed import Relaxed, RelaxedMass

__all__ = ["FAMILIES", "NoiseMap", "opened"]

Fn = Any
"""A distribution of Pyro or of torch."""


class NoiseMap(NamedTuple):
    """How the draws of a family are made.

    Attributes:
        noise: From a distribution to that of its noise; None when there is none after all.
        value: From a distribution and noise to the draw.
    """

    noise: Callable[[Fn], Fn | None]
    value: Callable[[Fn, Tensor], Tensor]


def opened(uniform: Tensor) -> Tensor:
    """Uniforms moved off 0 and 1, by half of the least that tells 1 from its neighbours.

    Example:
        >>> bool(opened(torch.tensor(0.0)) > 0)
        True
    """
    least = torch.finfo(uniform.dtype).eps / 2
    return uniform.clamp(least, 1 - least)


def _normal(fn: Fn) -> Fn:
    zeros = _zeros(fn, *fn.batch_shape, *fn.event_shape)
    return dist.Normal(zeros, torch.ones_like(zeros)).to_event(len(fn.event_shape))


def _uniform(fn: Fn) -> Fn:
    """A uniform for each element of a draw."""
    zeros = _zeros(fn, *fn.batch_shape, *fn.event_shape)
    return dist.Uniform(zeros, torch.ones_like(zeros)).to_event(len(fn.event_shape))


def _two_uniforms(fn: Fn) -> Fn:
    zeros = _zeros(fn, *fn.batch_shape, 2)
    return dist.Uniform(zeros, torch.ones_like(zeros)).to_event(1)


def _gumbel(fn: Fn) -> Fn:
    return dist.Gumbel(torch.zeros_like(fn.logits), torch.ones_like(fn.logits)).to_event(1)


def _zeros(fn: Fn, *shape: int) -> Tensor:
    """Zeros of the dtype and on the device of the distribution's parameters."""
    values = (getattr(fn, name, None) for name in fn.arg_constraints)
    like = next((v for v in values if isinstance(v, Tensor) and v.is_floating_point()), torch.zeros(()))
    return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _multivariate_normal(fn: Fn, noise: Tensor) -> Tensor:
    return fn.loc + (fn._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)


def _low_rank(fn: Fn, noise: Tensor) -> Tensor:
    return fn.loc + (fn.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)


def _log_gamma(concentration: Tensor, noise: Tensor) -> Tensor:
    return log_gamma_quantile(opened(noise), concentration)


def _gamma(fn: Fn, noise: Tensor) -> Tensor:
    return _positive(_log_gamma(fn.concentration, noise).exp().to(noise.dtype) / fn.rate)


def _beta(fn: Fn, noise: Tensor) -> Tensor:
    logit = _log_gamma(fn.concentration1, noise[..., 0]) - _log_gamma(fn.concentration0, noise[..., 1])
    return opened(_positive(logit.sigmoid().to(noise.dtype)))


def _dirichlet(fn: Fn, noise: Tensor) -> Tensor:
    return _positive(_log_gamma(fn.concentration, noise).softmax(-1).to(noise.dtype))


def _student_t(fn: Fn, noise: Tensor) -> Tensor:
    """A normal by the root of a chi-square over its degrees of freedom."""
    normal, half = torch.special.ndtri(opened(noise[..., 0]).double()), fn.df / 2
    ratio = (0.5 * (half.log() - _log_gamma(half, noise[..., 1]))).exp()
    return fn.loc + fn.scale * (normal * ratio).to(noise.dtype)


def _von_mises(fn: Fn, noise: Tensor) -> Tensor:
    angle = von_mises_quantile(opened(noise), fn.concentration).to(noise.dtype)
    return (fn.loc + angle + torch.pi) % (2 * torch.pi) - torch.pi


def _one_hot(fn: Fn, noise: Tensor) -> Tensor:
    chosen = (fn.logits + noise).argmax(-1, keepdim=True)
    return torch.zeros_like(noise).scatter(-1, chosen, 1.0)


def _binomial(fn: Fn, noise: Tensor) -> Tensor:
    """How many counts have a distribution function below the uniform."""
    counts = fn.enumerate_support(expand=False)
    below = fn.log_prob(counts).double().exp().cumsum(0)[:-1].movedim(0, -1)
    return (noise.unsqueeze(-1) > below).sum(-1).to(noise.dtype)


def _relaxed_bit(fn: Fn, noise: Tensor) -> Tensor:
    return (fn.logits + opened(noise).logit()) / fn.temperature


def _relaxed_class(fn: Fn, noise: Tensor) -> Tensor:
    return ((fn.logits + noise) / fn.temperature).log_softmax(-1)


def _relaxed_noise(fn: Fn) -> Fn:
    zeros = torch.zeros_like(fn.logits)
    return dist.Uniform(zeros, torch.ones_like(zeros)) if isinstance(fn.family, Bit) else _gumbel(fn)


def _relaxed(fn: Fn, noise: Tensor) -> Tensor:
    """A draw of this library's relaxations, which remembers what it was before rounding."""
    if isinstance(fn.family, Bit):
        return fn.drawn(_relaxed_bit(fn, noise))
    return fn.drawn(_relaxed_class(fn, noise))


def _positive(value: Tensor) -> Tensor:
    """Off zero, where densities are infinite, as torch's draws are."""
    return value.clamp(min=torch.finfo(value.dtype).tiny)


_BY_QUANTILE = (
    torch_dist.Uniform,
    torch_dist.Laplace,
    torch_dist.Cauchy,
    torch_dist.Exponential,
    torch_dist.HalfNormal,
    torch_dist.HalfCauchy,
    torch_dist.ContinuousBernoulli,
    dist.Logistic,
    dist.SkewLogistic,
    dist.SoftLaplace,
)

FAMILIES: dict[type, NoiseMap] = {
    torch_dist.Normal: NoiseMap(_normal, lambda fn, noise: fn.loc + fn.scale * noise),
    torch_dist.MultivariateNormal: NoiseMap(_normal, _multivariate_normal),
    torch_dist.LowRankMultivariateNormal: NoiseMap(_normal, _low_rank),
    torch_dist.Gamma: NoiseMap(_uniform, _gamma),
    torch_dist.Beta: NoiseMap(_two_uniforms, _beta),
    torch_dist.Dirichlet: NoiseMap(_uniform, _dirichlet),
    torch_dist.StudentT: NoiseMap(_two_uniforms, _student_t),
    torch_dist.VonMises: NoiseMap(_uniform, _von_mises),
    torch_dist.Bernoulli: NoiseMap(_uniform, lambda fn, noise: (noise < fn.probs).to(noise.dtype)),
    torch_dist.Binomial: NoiseMap(_uniform, _binomial),
    torch_dist.Poisson: NoiseMap(_uniform, lambda fn, noise: poisson_quantile(opened(noise), fn.rate).to(noise.dtype)),
    torch_dist.Categorical: NoiseMap(_gumbel, lambda fn, noise: (fn.logits + noise).argmax(-1)),
    torch_dist.OneHotCategorical: NoiseMap(_gumbel, _one_hot),
    ExpRelaxedCategorical: NoiseMap(_gumbel, _relaxed_class),
    LogitRelaxedBernoulli: NoiseMap(_uniform, _relaxed_bit),
    Relaxed: NoiseMap(_relaxed_noise, _relaxed),
    RelaxedMass: NoiseMap(_relaxed_noise, _relaxed),
    **{family: NoiseMap(_uniform, lambda fn, noise: fn.icdf(opened(noise))) for family in _BY_QUANTILE},
}
