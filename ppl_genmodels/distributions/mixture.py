r"""Mixtures of any distributions of one event shape.

Convention of this module: weights are given as logits, which need not be normalised; the last dim of the logits counts
the components.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import Categorical, TorchDistribution
from torch import Tensor

from ppl_genmodels.errors import OptionError

__all__ = ["Mixture"]


class Mixture(TorchDistribution):
    r"""One of several distributions, chosen at random.

    .. math:: p(x) = \sum_k w_k \, p_k(x), \quad w = \mathrm{softmax}(\mathrm{logits})

    The components need not be of one family: a flow beside a Normal serves. Where they are,
    ``dist.MixtureSameFamily`` is faster. Draws have no pathwise gradient, as the choice has none.

    Args:
        logits: Shape (\*batch, components).
        components: Distributions of one event shape, whose batch shapes broadcast with that of the logits.

    Raises:
        OptionError: When there are no components, their number is not that of the logits, or their event shapes differ.

    Example:
        >>> import pyro.distributions as dist
        >>> mixture = Mixture(torch.zeros(2), [dist.Normal(-1.0, 0.5), dist.Laplace(1.0, 0.5)])
        >>> mixture.sample((3,)).shape, mixture.log_prob(torch.tensor([0.0, 2.0])).shape
        (torch.Size([3]), torch.Size([2]))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    has_rsample = False

    def __init__(self, logits: Tensor, components: Sequence[Any], validate_args: bool | None = None) -> None:
        _check(logits, components)
        shape = torch.broadcast_shapes(logits.shape[:-1], *(each.batch_shape for each in components))
        self.logits = (logits - logits.logsumexp(-1, keepdim=True)).expand(*shape, -1)
        self.components = [each if each.batch_shape == shape else each.expand(shape) for each in components]
        super().__init__(shape, components[0].event_shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """That of the first component."""
        return self.components[0].support

    @property
    def mean(self) -> Tensor:
        r"""The weighted mean of the components' means, shape (\*batch, \*event)."""
        return self._weighted([each.mean for each in self.components])

    @property
    def variance(self) -> Tensor:
        r"""The variance of each coordinate, shape (\*batch, \*event)."""
        square = self._weighted([each.variance + each.mean.square() for each in self.components])
        return square - self.mean.square()

    def expand(self, batch_shape: Any, _instance: Any = None) -> Mixture:
        """The same mixture with another batch shape."""
        shape = torch.Size(batch_shape)
        return Mixture(
            self.logits.expand(*shape, -1), [each.expand(shape) for each in self.components], validate_args=False
        )

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws, shape (\*sample, \*batch, \*event): one of each component, of which one is chosen."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            draws = torch.stack([each.sample(shape) for each in self.components])
            chosen = Categorical(logits=self.logits).sample(shape)
            chosen = chosen.reshape(1, *chosen.shape, *(1 for _ in self.event_shape)).expand(1, *draws.shape[1:])
            return draws.gather(0, chosen).squeeze(0)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log-density, shape (\*sample, \*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        return (self.logits + torch.stack([each.log_prob(value) for each in self.components], -1)).logsumexp(-1)

    def _weighted(self, values: list[Tensor]) -> Tensor:
        weights = self.logits.exp().movedim(-1, 0)
        weights = weights.reshape(*weights.shape, *(1 for _ in self.event_shape))
        return (weights * torch.stack(values)).sum(0)


def _check(logits: Tensor, components: Sequence[Any]) -> None:
    if logits.dim() == 0 or not components or logits.shape[-1] != len(components):
        raise OptionError(
            f"Mixture: {len(components)} components and logits of shape {tuple(logits.shape)}, whose last dim should "
            f"count them. Remedy: one logit for each component, torch.zeros({max(len(components), 1)}) for equal ones."
        )
    shapes = sorted({tuple(each.event_shape) for each in components})
    if len(shapes) > 1:
        raise OptionError(
            f"Mixture: the components have event shapes {', '.join(map(str, shapes))}, expected one. Remedy: declare "
            f"event dims with .to_event for all of them alike."
        )
