r"""Velocity fields that depend on time, and how much they spread out what flows along them.

Convention of this module: a field is a module that is called with values (\*batch, features), with their times
(\*batch) and maybe with a context (\*batch, context features), and gives (\*batch, features).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from ppl_genmodels.networks import MLP
from ppl_genmodels.transforms.coupling import zero_last

__all__ = ["Spread", "VelocityNetwork", "spread"]


class VelocityNetwork(nn.Module):
    r"""A multilayer perceptron of values, time and context, with smooth activations.

    Its last layer starts at zero, so that nothing moves.

    Args:
        features: Length of the values.
        hidden: Widths of the hidden layers.
        context_features: Length of the context; 0 for none.

    Example:
        >>> VelocityNetwork(2)(torch.ones(5, 2), torch.zeros(5)).shape
        torch.Size([5, 2])
    """

    def __init__(self, features: int, hidden: Iterable[int] = (64, 64), context_features: int = 0) -> None:
        super().__init__()
        self.network = MLP(features + 1 + context_features, features, hidden, nn.Tanh)
        zero_last(self.network.layers)

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        r"""The velocity, shape (\*batch, features)."""
        parts = [x, t.unsqueeze(-1)]
        return self.network(torch.cat(parts if context is None else [*parts, context], -1))


class Spread(NamedTuple):
    r"""A velocity and what its Jacobian :math:`J = \partial f / \partial x` tells, for each value of a batch.

    Attributes:
        velocity: Shape (\*batch, features).
        divergence: :math:`\operatorname{tr} J`, or an estimate, shape (\*batch).
        squared_norm: :math:`\|J\|_F^2`, or an estimate, shape (\*batch).
    """

    velocity: Tensor
    divergence: Tensor
    squared_norm: Tensor


def spread(field: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor | None = None) -> Spread:
    r"""A field's velocity, divergence and squared Jacobian norm at values.

    Without noise both are exact, from as many vector-Jacobian products as there are features. With noise of mean zero
    and unit covariance one product :math:`\epsilon^\top J` estimates both without bias:
    :math:`E[\epsilon^\top J \epsilon] = \operatorname{tr} J` and :math:`E \|\epsilon^\top J\|^2 = \|J\|_F^2`.

    Args:
        field: From values to velocities; each row of a batch by itself.
        x: Values, shape (\*batch, features).
        noise: Of the shape of the values; None for exact numbers.

    References:
        Hutchinson (1989), A stochastic estimator of the trace of the influence matrix; Grathwohl and others (2019),
        FFJORD, equations 7 and 8; Finlay, Jacobsen, Nurbekyan and Oberman (2020), How to Train Your Neural ODE.

    Example:
        >>> spread(lambda x: x**2, torch.tensor([[1.0, 3.0]])).divergence
        tensor([8.])
    """
    velocity, pull = vjp(field, x)  # type: ignore[misc]
    if noise is not None:
        (product,) = pull(noise)
        return Spread(velocity, (product * noise).sum(-1), product.square().sum(-1))
    features, batch = x.shape[-1], x.shape[:-1]
    basis = torch.eye(features, dtype=x.dtype, device=x.device).reshape(features, *(1 for _ in batch), features)
    (jacobian,) = vmap(pull)(basis.expand(features, *batch, features))
    return Spread(velocity, jacobian.diagonal(dim1=0, dim2=-1).sum(-1), jacobian.square().sum((0, -1)))
