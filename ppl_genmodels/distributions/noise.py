r"""Draws as a function of parameter-free noise: :math:`z = g(\epsilon; \theta)` with :math:`\epsilon \sim p(\epsilon)`.

Convention of this module: the noise of a distribution depends on its family and shape alone, so that one noise serves
distributions with other parameters. For discrete distributions :math:`g` is a step function.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as torch_dist
from torch import Tensor

__all__ = ["from_noise", "has_noise", "noise_of"]

Fn = Any
"""A distribution of Pyro or of torch."""

_NORMAL = (torch_dist.Normal, torch_dist.MultivariateNormal, torch_dist.LowRankMultivariateNormal)
_BY_QUANTILE = (
    torch_dist.Uniform,
    torch_dist.Laplace,
    torch_dist.Cauchy,
    torch_dist.Exponential,
    torch_dist.HalfNormal,
    torch_dist.HalfCauchy,
)
_CLASSES = (torch_dist.Categorical, torch_dist.OneHotCategorical)
_INNER = (torch_dist.Independent, dist.MaskedDistribution)


def noise_of(fn: Fn) -> Fn | None:
    """The distribution of the noise that a distribution's draws can be made from.

    Args:
        fn: The distribution.

    Returns:
        Of the same batch shape and without parameters of ``fn``; None when there is no such map.

    References:
        Devroye (1986), Non-Uniform Random Variate Generation, chapter II; Gumbel (1954) and Maddison, Tarlow and Minka
        (2014), A* Sampling, for the maximum that draws a class.

    Example:
        >>> noise_of(dist.Normal(torch.ones(3), 2.0).to_event(1)).event_shape
        torch.Size([3])
        >>> noise_of(dist.Gamma(1.0, 1.0)) is None
        True
    """
    if isinstance(fn, _INNER):
        inner = noise_of(fn.base_dist)
        reinterpreted = getattr(fn, "reinterpreted_batch_ndims", 0)
        return None if inner is None else inner.to_event(reinterpreted)
    if isinstance(fn, torch_dist.TransformedDistribution) and not isinstance(fn, _RELAXED):
        return noise_of(fn.base_dist)
    if isinstance(fn, _CLASSES):
        logits = fn.logits
        return dist.Gumbel(torch.zeros_like(logits), torch.ones_like(logits)).to_event(1)
    shape = torch.Size(fn.batch_shape + fn.event_shape)
    zeros = torch.zeros(shape, dtype=_parameter(fn).dtype, device=_parameter(fn).device)
    if isinstance(fn, _NORMAL):
        return dist.Normal(zeros, torch.ones_like(zeros)).to_event(len(fn.event_shape))
    if isinstance(fn, (*_BY_QUANTILE, torch_dist.Bernoulli)):
        return dist.Uniform(zeros, torch.ones_like(zeros))
    return None


def has_noise(fn: Fn) -> bool:
    """Whether a distribution's draws can be made from parameter-free noise.

    Example:
        >>> has_noise(dist.Bernoulli(0.3)), has_noise(dist.Poisson(3.0))
        (True, False)
    """
    return noise_of(fn) is not None


def from_noise(fn: Fn, noise: Tensor) -> Tensor:
    """The draw that noise makes.

    Args:
        fn: A distribution that :func:`noise_of` serves.
        noise: A draw of that, shape (\\*sample, \\*batch, \\*event), for classes (\\*sample, \\*batch, classes).

    Returns:
        Shape (\\*sample, \\*batch, \\*event), differentiable in the parameters of ``fn`` where it is continuous.

    Example:
        >>> from_noise(dist.Normal(torch.tensor(1.0), 2.0), torch.tensor(0.5))
        tensor(2.)
        >>> from_noise(dist.Bernoulli(torch.tensor([0.2, 0.8])), torch.tensor([0.5, 0.5]))
        tensor([0., 1.])
    """
    if isinstance(fn, _INNER):
        return from_noise(fn.base_dist, noise)
    if isinstance(fn, torch_dist.TransformedDistribution):
        value = from_noise(fn.base_dist, noise)
        for transform in fn.transforms:
            value = transform(value)
        return value
    if isinstance(fn, torch_dist.Categorical):
        return (fn.logits + noise).argmax(-1)
    if isinstance(fn, torch_dist.OneHotCategorical):
        chosen = (fn.logits + noise).argmax(-1, keepdim=True)
        return torch.zeros_like(noise).scatter(-1, chosen, 1.0)
    if isinstance(fn, torch_dist.Bernoulli):
        return (noise < fn.probs).to(noise.dtype)
    if isinstance(fn, torch_dist.Normal):
        return fn.loc + fn.scale * noise
    if isinstance(fn, torch_dist.MultivariateNormal):
        return fn.loc + (fn._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    if isinstance(fn, torch_dist.LowRankMultivariateNormal):
        return fn.loc + (fn.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    return fn.icdf(noise)


_RELAXED = (torch_dist.RelaxedBernoulli, torch_dist.RelaxedOneHotCategorical)


def _parameter(fn: Fn) -> Tensor:
    """One of the distribution's tensors, for dtype and device."""
    for name in fn.arg_constraints:
        value = getattr(fn, name, None)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    return torch.zeros(())
