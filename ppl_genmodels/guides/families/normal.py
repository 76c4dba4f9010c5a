"""The family of continuous sites: a diagonal Normal carried onto the support by a bijection.

Convention of this module: the parameters are the locations followed by the raw scales, both in the
unconstrained space of the bijection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import AffineTransform, ReshapeTransform
from torch.nn import functional

from ppl_genmodels.distributions import Flow
from ppl_genmodels.guides.families.base import Distribution, Family
from ppl_genmodels.guides.families.support import is_real, to_device

__all__ = ["INITIAL_SCALE", "TransformedNormal"]

INITIAL_SCALE = 0.5
"""Standard deviation in unconstrained space before any training."""


class TransformedNormal(Family):
    r"""A Normal carried onto a support.

    .. math:: z = T(\mu + \sigma \epsilon), \quad \epsilon \sim \mathcal{N}(0, I)

    :math:`T` is ``torch.distributions.biject_to(support)``: the identity for reals (the member is
    then a plain Normal, for which divergences have closed forms), the exponential for positive
    values, the logistic function for intervals, stick-breaking for the simplex. The scale is
    :math:`\sigma = \mathrm{softplus}(s)` plus the smallest relative step of its dtype, so that it
    never vanishes; before any training it is :data:`INITIAL_SCALE`.

    Args:
        support: The site's support, without anything that differs between data.
        event_shape: Shape of one draw.

    Raises:
        NotImplementedError: When no bijection onto the support is registered.

    References:
        Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), Automatic Differentiation Variational
        Inference, section 2.3.

    Example:
        >>> family = TransformedNormal(constraints.simplex, Size([3]))
        >>> family.parameters, family.distribution(torch.zeros(7, 4)).sample().shape
        (4, torch.Size([7, 3]))
    """

    def __init__(self, support: constraints.Constraint, event_shape: Size) -> None:
        self.support, self.event_shape = support, event_shape
        self.real = is_real(support)
        self.shape = Size(biject_to(support).inverse_shape(event_shape))
        self.width = self.shape.numel()
        self.parameters = 2 * self.width

    def distribution(self, parameters: Tensor) -> Distribution:
        """The Normal on the support, its coordinates declared as event dims."""
        shape = parameters.shape[:-1] + self.shape
        location, scale = self._location_and_scale(parameters)
        normal = dist.Normal(location.reshape(shape), scale.reshape(shape))
        if self.real:
            return normal.to_event(len(self.event_shape))
        return dist.TransformedDistribution(normal, [self._transform(parameters.device)])

    def flow(self, parameters: Tensor, layers: Iterable[Any]) -> Flow:
        r"""The distribution of :math:`T(\mu + \sigma f(\epsilon))`, with :math:`f` the layers."""
        location, scale = self._location_and_scale(parameters)
        noise = dist.Normal(torch.zeros_like(location), torch.ones_like(scale)).to_event(1)
        onto = [] if self.real else [self._transform(parameters.device)]
        if self.shape != (self.width,):
            onto.insert(0, ReshapeTransform(Size([self.width]), self.shape))
        return Flow(noise, [*layers, AffineTransform(location, scale, event_dim=1), *onto])

    def _location_and_scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        location, raw_scale = parameters.split(self.width, -1)
        return location, functional.softplus(raw_scale) + torch.finfo(parameters.dtype).eps

    def embed(self, value: Tensor) -> Tensor:
        """The value carried back to unconstrained space."""
        unconstrained = value if self.real else self._transform(value.device).inv(value)
        return unconstrained.reshape(*self._batch(value), self.width)

    def initial(self) -> Tensor:
        """Locations zero, scales :data:`INITIAL_SCALE`."""
        raw_scale = math.log(math.expm1(INITIAL_SCALE))
        return torch.cat([torch.zeros(self.width), torch.full((self.width,), raw_scale)])

    def initial_from(self, draws: Tensor) -> Tensor:
        """Locations at the median of the draws, scales :data:`INITIAL_SCALE`."""
        location = self.embed(draws).median(0).values.nan_to_num(0.0, 0.0, 0.0)
        raw_scale = self.initial()[self.width :].to(location)
        return torch.cat([location, raw_scale.expand_as(location)], -1)

    @property
    def fixed_at_start(self) -> slice:
        """The scales."""
        return slice(self.width, 2 * self.width)

    def _batch(self, value: Tensor) -> Size:
        return value.shape[: value.dim() - len(self.event_shape)]

    def _transform(self, device: torch.device) -> torch.distributions.Transform:
        # With a cache the density of one's own draw needs no inverse, which would saturate.
        return biject_to(to_device(self.support, device)).with_cache(1)
