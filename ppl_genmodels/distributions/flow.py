r"""Flows: a base distribution carried along by bijections, with densities in one pass.

Convention of this module: the transforms lead from noise to data, and are held by the module that makes the flow, so
that a flow is as cheap to make as any distribution.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TransformedDistribution
from pyro.distributions.conditional import ConditionalTransform
from torch import Tensor
from torch.distributions import Transform, constraints

from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms.bijection import along, sum_rightmost
from ppl_genmodels.transforms.path_costs import PathCosts, noted_costs

__all__ = ["Flow"]


class Flow(TransformedDistribution):
    r"""The distribution of :math:`y = f_n(\dots f_1(x))` for :math:`x` from a base distribution.

    .. math:: \log p(y) = \log p(x) - \sum_i \log |\det \partial f_i|

    A draw remembers how it was made, so that its density costs no inverse: a flow that only samples fast serves as a
    guide.

    Args:
        base: The base distribution, such as ``dist.Normal(0, 1).expand([n]).to_event(1)``.
        transforms: From noise to data: bijections of this library, of Pyro (conditional ones too), or of torch.

    References:
        Rezende and Mohamed (2015), Variational Inference with Normalizing Flows, equations 5 to 7.

    Example:
        >>> import pyro.distributions as dist
        >>> from ppl_genmodels.transforms import Coupling
        >>> layers = torch.nn.ModuleList([Coupling(2), Coupling(2, swap=True)])
        >>> flow = Flow(dist.Normal(torch.zeros(2), 1.0).to_event(1), layers)
        >>> flow.log_prob(flow.rsample((5,))).shape
        torch.Size([5])
    """

    def __init__(self, base: Any, transforms: Any, validate_args: bool | None = None) -> None:
        parts = [_Awaiting(each) if isinstance(each, ConditionalTransform) else each for each in transforms]
        super().__init__(base, parts, validate_args=validate_args)
        self._drawn: tuple[Tensor, Tensor, Tensor] | None = None
        self.path_costs: list[PathCosts] = []
        """Of the continuous layers, in the last draw or density; one for each layer."""

    def expand(self, batch_shape: Any, _instance: Any = None) -> Flow:
        """The same flow with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        for transform in reversed(self.transforms):
            shape = transform.inverse_shape(shape)
        base_batch = shape[: len(shape) - len(self.base_dist.event_shape)]
        return Flow(self.base_dist.expand(base_batch), self.transforms, validate_args=False)

    def condition(self, context: Tensor) -> Flow:
        r"""The flow given a context.

        Args:
            context: Shape (\*batch, features), for every bijection that was made with ``context_features``, and for
                Pyro's conditional transforms.

        Raises:
            OptionError: When no bijection takes a context.
        """
        takes = [getattr(transform, "context_features", 0) > 0 for transform in self.transforms]
        if not any(takes):
            raise OptionError(
                f"no transform of this flow takes a context, got one of shape {tuple(context.shape)}. Remedy: "
                f"context_features={context.shape[-1]} for those that shall."
            )
        given = [each.condition(context) if does else each for each, does in zip(self.transforms, takes, strict=True)]
        return Flow(self.base_dist, given, validate_args=False).expand(
            torch.broadcast_shapes(self.batch_shape, context.shape[:-1])
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws, shape (\*sample, \*batch, \*event)."""
        x = self.base_dist.rsample(torch.Size(sample_shape))
        with noted_costs() as self.path_costs:
            y, ladj = self._carried(x)
        self._drawn = (y, x, ladj)
        return y

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws without gradient, shape (\*sample, \*batch, \*event)."""
        with torch.no_grad():
            value = self.base_dist.sample(torch.Size(sample_shape))
            for transform in self.transforms:
                value = transform(value)
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log-density, shape (\*sample, \*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        if self._drawn is not None and self._drawn[0] is value:
            _, x, ladj = self._drawn
        else:
            with noted_costs() as self.path_costs:
                x, ladj = self._carried_back(value)
        density = self.base_dist.log_prob(x)
        return sum_rightmost(density, self._base_event_dim - len(self.base_dist.event_shape)) - ladj

    @property
    def _base_event_dim(self) -> int:
        """How many dims from the right one event has before the transforms, which may change their number."""
        return len(self.event_shape) - sum(t.codomain.event_dim - t.domain.event_dim for t in self.transforms)

    def _carried(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return along(self.transforms, x, self._base_event_dim, forward=True)

    def _carried_back(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return along(self.transforms[::-1], y, len(self.event_shape), forward=False)


class _Awaiting(Transform):
    """One of Pyro's conditional transforms before it is given a context."""

    bijective = True

    def __init__(self, conditional: Any) -> None:
        super().__init__(cache_size=0)
        self.conditional, self.context_features = conditional, True
        self.domain = getattr(conditional, "domain", constraints.real_vector)
        self.codomain = getattr(conditional, "codomain", constraints.real_vector)

    def condition(self, context: Tensor) -> Any:
        """The transform given a context."""
        return self.conditional.condition(context)

    def _call(self, value: Tensor) -> Tensor:
        raise OptionError(
            f"{type(self.conditional).__name__} takes a context and was given none. Remedy: flow.condition(context)."
        )

    _inverse = _call
