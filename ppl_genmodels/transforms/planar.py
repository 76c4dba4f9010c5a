r"""Planar layers: all of space is moved along one direction, by how far it lies along another.

Convention of this module: the forward direction is one pass; the inverse solves an equation of one unknown to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_genmodels.networks import MLP
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection
from ppl_genmodels.transforms.coupling import check_context, zero_last

__all__ = ["Planar"]

_ONE = math.log(math.expm1(1.0))
"""Whose softplus is one."""
_HALVINGS = 60


class Planar(Bijection):
    r""":math:`y = x + \hat u \tanh(w^\top x + b)`, with :math:`w^\top \hat u > -1`.

    It starts as the identity. Pyro's layer of this name has no inverse, so that only its own last draw has a density;
    this one has one.

    Args:
        features: Length of the vectors.
        hidden: Widths of the hidden layers of the network that makes :math:`u`, :math:`w` and :math:`b` of a context.
        context_features: Length of the context; 0 for none.

    References:
        Rezende and Mohamed (2015), Variational Inference with Normalizing Flows, equation 10 and appendix A.1.

    Example:
        >>> layer = Planar(2)
        >>> x = torch.tensor([1.0, -2.0])
        >>> torch.allclose(layer.inv(layer(x)), x)
        True
    """

    def __init__(self, features: int, hidden: Iterable[int] = (32,), context_features: int = 0) -> None:
        super().__init__()
        self.features, self.context_features = check_size("Planar", "features", features), context_features
        start = torch.cat([torch.zeros(features), torch.randn(features) / features**0.5, torch.zeros(1)])
        if context_features:
            self.network = MLP(context_features, len(start), hidden)
            zero_last(self.network.layers)
        self.start = nn.Parameter(start)

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        u, w, b, along = self._directions(context)
        bent = ((w * x).sum(-1) + b).tanh()
        return x + u * bent.unsqueeze(-1), (along * (1 - bent.square())).log1p()

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        u, w, b, along = self._directions(context)
        bent = _solved((w * y).sum(-1) + b, along).tanh()
        return y - u * bent.unsqueeze(-1), (along * (1 - bent.square())).log1p()

    def _directions(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The direction of moving, that of looking, the offset, and the product of the two directions."""
        check_context(context, self.context_features, "Planar")
        made = self.start if context is None else self.start + self.network(context)
        u, w, b = made.split([self.features, self.features, 1], -1)
        raw, square = (u * w).sum(-1), w.square().sum(-1)
        square = square + torch.finfo(square.dtype).tiny
        along = softplus(raw + _ONE) - 1
        return u + ((along - raw) / square).unsqueeze(-1) * w, w, b.squeeze(-1), along


def _solved(target: Tensor, slope: Tensor) -> Tensor:
    """The number a with a + slope * tanh(a) = target, for a slope above -1."""
    target, slope = torch.broadcast_tensors(target, slope)
    with torch.no_grad():
        low, high = target - slope.abs(), target + slope.abs()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = middle + slope * middle.tanh() > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        found = (low + high) / 2
    bent = found.tanh()  # One step of Newton's, which carries the gradient.
    return found - (found + slope * bent - target) / (1 + slope * (1 - bent.square()))
