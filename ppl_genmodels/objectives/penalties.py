r"""Penalties of a critic's slope.

Convention of this module: a critic is called with the values of all its sites; a penalty has one number for each pair
of values, of the batch shape, and lessens the critic's bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError

__all__ = ["GradientPenalty"]

Where = Literal["between", "first", "second"]


@dataclass(frozen=True)
class GradientPenalty:
    r"""The weighted square of how far the norm of the critic's gradient is from a target.

    .. math:: \lambda \, (\|\nabla_x D(x)\| - K)^2

    With the target 0 at the data alone it is the R1 penalty.

    Attributes:
        weight: :math:`\lambda`.
        target: :math:`K`.
        one_sided: Whether norms below the target are free.
        at: ``"between"``: at random points between paired values of both sides; ``"first"`` or ``"second"``: at the
            values of one side.

    Raises:
        OptionError: When the weight is negative, or the place none of the three.

    References:
        Gulrajani and others (2017), Improved Training of Wasserstein GANs, algorithm 1; Petzka, Fischer and Lukovnikov
        (2018), On the Regularization of Wasserstein GANs, for one-sided ones; Mescheder, Geiger and Nowozin (2018),
        Which Training Methods for GANs Do Actually Converge, section 4, for R1.

    Example:
        >>> critic = torch.nn.Linear(2, 1, bias=False)
        >>> _ = critic.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> GradientPenalty(10.0)(critic, [torch.zeros(3, 2)], [torch.ones(3, 2)])
        tensor([160., 160., 160.], grad_fn=<MulBackward0>)
    """

    weight: float
    target: float = 1.0
    one_sided: bool = False
    at: Where = "between"

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise OptionError(f"GradientPenalty: weight={self.weight}, expected 0 or more.")
        if self.at not in get_args(Where):
            raise OptionError(
                f"GradientPenalty: at={self.at!r}, expected one of {', '.join(map(repr, get_args(Where)))}."
            )

    def __call__(self, critic: Callable[..., Tensor], first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        r"""The penalty of each pair.

        Args:
            critic: The critic.
            first: The values of the one side, one tensor for each site, shape (\*batch, \*event); whole numbers, such
                as labels, stay those of this side.
            second: Those of the other.

        Returns:
            Of the shape of the critic's scores, without a last dim of size 1.
        """
        with torch.enable_grad():
            points = [point.detach() for point in self._points(first, second)]
            moved = [point.requires_grad_() for point in points if point.is_floating_point()]
            scores = critic(*points)
            scores = scores.squeeze(-1) if scores.dim() > 1 and scores.shape[-1] == 1 else scores
            slopes = torch.autograd.grad(scores.sum(), moved, create_graph=True)
            square = torch.stack([slope.square().flatten(scores.dim()).sum(-1) for slope in slopes]).sum(0)
            excess = (square + 1e-12).sqrt() - self.target
            return self.weight * (excess.relu() if self.one_sided else excess).square()

    def _points(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.at != "between":
            return first if self.at == "first" else second
        dtype = next(one.dtype for one in first if one.is_floating_point())
        share = torch.rand(first[0].shape[:1], dtype=dtype, device=first[0].device)
        return [
            torch.lerp(one, other, share.reshape(-1, *(1,) * (one.dim() - 1))) if one.is_floating_point() else one
            for one, other in zip(first, second, strict=True)
        ]
