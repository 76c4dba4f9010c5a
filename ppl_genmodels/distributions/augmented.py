r"""Known numbers with drawn ones appended: the proposal for a density in more dimensions than the data have.

Convention of this module: a value is :math:`(x, e)` along the last dim, :math:`x` first. Its log-density is that of
:math:`e` alone, as :math:`x` is a point mass.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from ppl_genmodels.errors import OptionError

__all__ = ["Augmented"]


class Augmented(TorchDistribution):
    r"""The distribution of :math:`(x, e)` for a given :math:`x` and :math:`e \sim q(e \mid x)`.

    As the guide of a site whose prior is a density :math:`p(x, e)` it makes the evidence bound
    :math:`E[\log p(x, e) - \log q(e \mid x)] \le \log p(x)`.

    Args:
        value: :math:`x`, shape (\*batch, features).
        extra: The distribution of :math:`e`, of one event dim.

    Raises:
        OptionError: When ``extra`` has not one event dim.

    References:
        Huang, Dinh and Courville (2020), Augmented Normalizing Flows; Chen, Lu, Chenli, Zhu and Tian (2020), VFlow.

    Example:
        >>> import pyro.distributions as dist
        >>> x = torch.ones(5, 2)
        >>> augmented = Augmented(x, dist.Normal(torch.zeros(5, 3), 1.0).to_event(1))
        >>> drawn = augmented.rsample()
        >>> drawn.shape, torch.equal(drawn[:, :2], x), augmented.log_prob(drawn).shape
        (torch.Size([5, 5]), True, torch.Size([5]))
    """

    support = constraints.independent(constraints.real, 1)
    arg_constraints: ClassVar = {"value": constraints.independent(constraints.real, 1)}

    def __init__(self, value: Tensor, extra: Any, validate_args: bool | None = None) -> None:
        if len(extra.event_shape) != 1:
            raise OptionError(
                f"Augmented: extra has event shape {tuple(extra.event_shape)}, expected one dim. Remedy: "
                f"extra.to_event(1) for independent numbers."
            )
        batch = torch.broadcast_shapes(value.shape[:-1], extra.batch_shape)
        self.value, self.extra = value.expand(*batch, -1), extra.expand(batch)
        event = torch.Size([value.shape[-1] + extra.event_shape[0]])
        super().__init__(batch, event, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the drawn part has."""
        return self.extra.has_rsample

    def expand(self, batch_shape: Any, _instance: Any = None) -> Augmented:
        """The same distribution with another batch shape."""
        batch = torch.Size(batch_shape)
        return Augmented(self.value.expand(*batch, -1), self.extra.expand(batch), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws, shape (\*sample, \*batch, features)."""
        return self._joined(self.extra.rsample(torch.Size(sample_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws without gradient, shape (\*sample, \*batch, features)."""
        with torch.no_grad():
            return self._joined(self.extra.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log-density of the drawn part; minus infinity where the known part is another."""
        if self._validate_args:
            self._validate_sample(value)
        known, drawn = value.split([self.value.shape[-1], self.extra.event_shape[0]], -1)
        density = self.extra.log_prob(drawn)
        return torch.where((known == self.value).all(-1), density, -torch.inf)

    @property
    def mean(self) -> Tensor:
        """The known part, and the mean of the drawn one."""
        return torch.cat([self.value, self.extra.mean], -1)

    @property
    def variance(self) -> Tensor:
        """Zero for the known part, and the variance of the drawn one."""
        return torch.cat([torch.zeros_like(self.value), self.extra.variance], -1)

    def _joined(self, drawn: Tensor) -> Tensor:
        return torch.cat([self.value.expand(*drawn.shape[:-1], -1), drawn], -1)
