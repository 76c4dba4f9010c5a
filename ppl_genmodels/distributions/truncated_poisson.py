r"""The Poisson distribution cut off above, whose finitely many values can be listed.

Convention of this module: the mass above the bound is shared by the values below it in proportion.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.distributions as torch_dist
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.utils import lazy_property

from ppl_genmodels.networks.sizes import check_size

__all__ = ["TruncatedPoisson"]


class TruncatedPoisson(TorchDistribution):
    r"""Counts from 0 to ``high``, with probabilities in proportion to a Poisson's.

    .. math:: p(k) \propto \lambda^k / k!, \quad k = 0, \dots, K

    Its values can be listed, so that every estimator that sums over them serves it. With
    :math:`K \ge \lambda + 6\sqrt{\lambda} + 6` the mass cut off is below 1e-6, and the objective that of the Poisson.

    Args:
        rate: :math:`\lambda > 0`, shape (\*batch).
        high: :math:`K`, the largest count.

    Raises:
        OptionError: When ``high`` is no positive integer.

    Example:
        >>> fn = TruncatedPoisson(torch.tensor([1.0, 3.0]), high=20)
        >>> fn.mean
        tensor([1.0000, 3.0000])
        >>> fn.enumerate_support(expand=False).shape
        torch.Size([21, 1])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"rate": constraints.positive}
    has_enumerate_support = True

    def __init__(self, rate: Tensor | float, high: int, validate_args: bool | None = None) -> None:
        self.rate = torch.as_tensor(rate)
        self.high = check_size("TruncatedPoisson", "high", high)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The counts from 0 to ``high``."""
        return constraints.integer_interval(0, self.high)

    @lazy_property
    def logits(self) -> Tensor:
        r"""The log-probability of each count, shape (\*batch, high + 1)."""
        counts = torch.arange(self.high + 1, dtype=self.rate.dtype, device=self.rate.device)
        return (counts * self.rate.log().unsqueeze(-1) - (counts + 1).lgamma()).log_softmax(-1)

    @property
    def mean(self) -> Tensor:
        r"""Shape (\*batch)."""
        return self._expected(1)

    @property
    def variance(self) -> Tensor:
        r"""Shape (\*batch)."""
        return self._expected(2) - self.mean.square()

    def _expected(self, power: int) -> Tensor:
        counts = torch.arange(self.high + 1, dtype=self.rate.dtype, device=self.rate.device)
        return (self.logits.exp() * counts**power).sum(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TruncatedPoisson:
        """The same distribution with another batch shape."""
        return TruncatedPoisson(self.rate.expand(torch.Size(batch_shape)), self.high, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Counts as floating-point numbers, shape (\*sample, \*batch)."""
        drawn = torch_dist.Categorical(logits=self.logits, validate_args=False).sample(torch.Size(sample_shape))
        return drawn.to(self.rate.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log-probability of counts, shape (\*sample, \*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        index = value.long().unsqueeze(-1)
        shape = torch.broadcast_shapes(index.shape[:-1], self.batch_shape)
        logits = self.logits.expand(*shape, self.high + 1)
        return logits.gather(-1, index.expand(*shape, 1)).squeeze(-1)

    def entropy(self) -> Tensor:
        r"""In nats, shape (\*batch)."""
        return -(self.logits.exp() * self.logits).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        r"""All counts, shape (high + 1, \*batch) or with batch dims of size 1."""
        counts = torch.arange(self.high + 1, dtype=self.rate.dtype, device=self.rate.device)
        counts = counts.reshape(-1, *(1,) * len(self.batch_shape))
        return counts.expand(-1, *self.batch_shape) if expand else counts


@register_kl(TruncatedPoisson, TruncatedPoisson)
def _kl_of_counts(one: TruncatedPoisson, other: TruncatedPoisson) -> Tensor:
    """The divergence in closed form; infinite where the first has counts that the other has not."""
    if one.high > other.high:
        return (one.rate + other.rate) * torch.inf
    return (one.logits.exp() * (one.logits - other.logits[..., : one.high + 1])).sum(-1)
