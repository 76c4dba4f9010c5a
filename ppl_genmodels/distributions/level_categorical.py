"""A categorical over ordered levels 0, 1, ..., K-1, which has a mean.

Convention of this module: a value is the level itself, not a one-hot vector.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["LevelCategorical"]


class LevelCategorical(dist.Categorical):
    r"""A categorical whose classes are numbers, so that their mean and variance mean something.

    Takes ``probs`` or ``logits`` of shape ``(..., K)``, as :class:`pyro.distributions.Categorical`
    does.

    Example:
        >>> LevelCategorical(probs=torch.tensor([0.5, 0.0, 0.5])).mean
        tensor(1.)
    """

    @property
    def mean(self) -> Tensor:
        r"""The expected level :math:`\sum_k k \, p_k`, of the batch shape."""
        return self.probs @ self._levels()

    @property
    def variance(self) -> Tensor:
        r"""The variance of the level :math:`\sum_k (k - \mu)^2 p_k`, of the batch shape."""
        return (self.probs * (self._levels() - self.mean.unsqueeze(-1)).square()).sum(-1)

    def _levels(self) -> Tensor:
        return torch.arange(self.probs.shape[-1], dtype=self.probs.dtype, device=self.probs.device)
