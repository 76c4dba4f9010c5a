r"""Resampling of weighted particles: those of low weight leave, those of high weight have several successors.

Convention of this module: log weights are in nats, shape (particles, \*batch); every place of the batch is by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["effective_size", "successors", "taken"]


def effective_size(log_weight: Tensor) -> Tensor:
    r"""How many equally weighted particles would tell as much, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`; shape (\*batch).

    References:
        Kong, Liu and Wong (1994), Sequential Imputations and Bayesian Missing Data Problems, section 4.

    Example:
        >>> effective_size(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).T.log())
        tensor([2., 1.])
    """
    return (2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)).exp()


def successors(log_weight: Tensor) -> Tensor:
    r"""Numbers of the particles that go on, each as often as its weight says to within one; shape (particles, \*batch).

    References:
        Douc, Cappe and Moulines (2005), Comparison of Resampling Schemes for Particle Filtering, section 2.4, where it
        is called systematic.

    Example:
        >>> successors(torch.tensor([0.0, 0.5, 0.5, 0.0]).log())
        tensor([1, 1, 2, 2])
    """
    count = len(log_weight)
    upto = log_weight.softmax(0).cumsum(0).movedim(0, -1).contiguous()
    places = torch.arange(count, device=upto.device) + torch.rand_like(upto[..., :1])
    return torch.searchsorted(upto, places / count).clamp(max=count - 1).movedim(-1, 0)


def taken(value: Tensor, chosen: Tensor) -> Tensor:
    r"""The values of chosen particles.

    Args:
        value: Shape (particles, \*batch, \*event).
        chosen: Their numbers, shape (particles, \*batch).

    Example:
        >>> taken(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 1]))
        tensor([[3., 4.],
                [3., 4.]])
    """
    index = chosen.reshape(*chosen.shape, *(1,) * (value.dim() - chosen.dim()))
    return value.gather(0, index.expand(value.shape))
