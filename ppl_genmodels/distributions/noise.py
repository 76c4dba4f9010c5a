r"""Draws as a function of parameter-free noise: :math:`z = g(\epsilon; \theta)` with :math:`\epsilon \sim p(\epsilon)`.

Convention of this module: the noise of a distribution depends on its family and shape alone, so that one noise serves
distributions with other parameters. For discrete distributions :math:`g` is a step function. Noise is standard normal,
uniform on the unit interval, or standard Gumbel.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch.distributions as torch_dist
from torch import Tensor

from ppl_genmodels.distributions.noise_maps import FAMILIES, NoiseMap

__all__ = ["from_noise", "has_noise", "noise_of"]

Fn = Any
"""A distribution of Pyro or of torch."""


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
        >>> import torch
        >>> noise_of(dist.Normal(torch.ones(3), 2.0).to_event(1)).event_shape
        torch.Size([3])
        >>> noise_of(dist.Dirichlet(torch.ones(3))).event_shape, noise_of(dist.Delta(torch.ones(3))) is None
        (torch.Size([3]), True)
    """
    known = _map_of(fn)
    return None if known is None else known.noise(fn)


def has_noise(fn: Fn) -> bool:
    """Whether a distribution's draws can be made from parameter-free noise.

    Example:
        >>> has_noise(dist.VonMises(0.0, 1.0)), has_noise(dist.LKJCholesky(3, 1.0))
        (True, False)
    """
    return noise_of(fn) is not None


def from_noise(fn: Fn, noise: Tensor) -> Tensor:
    r"""The draw that noise makes.

    Args:
        fn: A distribution that :func:`noise_of` serves.
        noise: A draw of that, shape (\*sample, \*batch, \*event of the noise).

    Returns:
        Shape (\*sample, \*batch, \*event), differentiable in the parameters of ``fn`` and in the noise where it is
        continuous. An angle is taken into :math:`[-\pi, \pi)`, where torch draws it: its gradient is that of a
        function that is periodic in it.

    Example:
        >>> import torch
        >>> from_noise(dist.Normal(torch.tensor(1.0), 2.0), torch.tensor(0.5))
        tensor(2.)
        >>> from_noise(dist.Bernoulli(torch.tensor([0.2, 0.8])), torch.tensor([0.5, 0.5]))
        tensor([0., 1.])
        >>> from_noise(dist.Gamma(torch.tensor(1.0), 2.0), torch.tensor(0.5))
        tensor(0.3466)
    """
    known = _map_of(fn)
    if known is None:
        raise NotImplementedError(f"{type(fn).__name__} has no map from parameter-free noise.")
    value: Tensor = known.value(fn, noise)
    return value


def _map_of(fn: Fn) -> NoiseMap | None:
    return next((_MAPS[kind] for kind in type(fn).__mro__ if kind in _MAPS), None)


def _inner_noise(fn: Fn) -> Fn | None:
    inner = noise_of(fn.base_dist)
    return None if inner is None else inner.to_event(getattr(fn, "reinterpreted_batch_ndims", 0))


def _inner_value(fn: Fn, noise: Tensor) -> Tensor:
    return from_noise(fn.base_dist, noise)


def _transformed(fn: Fn, noise: Tensor) -> Tensor:
    value = from_noise(fn.base_dist, noise)
    for transform in fn.transforms:
        value = transform(value)
    return value


_MAPS: dict[type, NoiseMap] = {
    **FAMILIES,
    torch_dist.Independent: NoiseMap(_inner_noise, _inner_value),
    dist.MaskedDistribution: NoiseMap(_inner_noise, _inner_value),
    torch_dist.TransformedDistribution: NoiseMap(lambda fn: noise_of(fn.base_dist), _transformed),
}
