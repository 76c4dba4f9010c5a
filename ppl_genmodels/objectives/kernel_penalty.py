r"""The squared norm of a critic in the space of a kernel: what makes it change little when the program does.

Convention of this module: as that of :mod:`~ppl_genmodels.objectives.penalties`: a penalty is called with a critic and
the values of both sides, and has one number for each pair of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError

__all__ = ["KernelPenalty"]


@dataclass(frozen=True)
class KernelPenalty:
    r"""The weighted squared norm of the critic in the space of a Gaussian kernel, from its values at both sides' rows.

    .. math:: \lambda \, s^\top (K + \varepsilon I)^{-1} s \le \lambda \, \|D\|_{\mathcal H}^2, \qquad
        s_i = D(x_i), \quad K_{ij} = \exp(-\|x_i - x_j\|^2 / 2 h^2)

    That is the third condition of a stable game, (D3): the critic at its optimum changes in proportion to the change of
    the program's distribution. A divergence lessened so is the least sum, over distributions :math:`\tilde q`, of the
    divergence of :math:`\tilde q` and :math:`\mathrm{MMD}^2(\tilde q, q) / 4 \lambda`; of a critic that is free
    otherwise it is :math:`\mathrm{MMD}^2 / 4 \lambda`. The norm is the least of any function that has these values, and
    so below that of the critic, and equal to it for a sum of kernels at the rows.

    ``GradientPenalty(weight, target=0.0)`` holds the first derivatives of the same norm alone, at less cost.

    Attributes:
        weight: :math:`\lambda`; the change of the critic is at most :math:`1 / 2 \lambda` of that of the distribution.
        bandwidth: :math:`h`, in the data's units.
        ridge: :math:`\varepsilon`, the squared error that is allowed for each value, as the matrix has no inverse in
            floating-point numbers.

    Raises:
        OptionError: When the weight or the ridge is negative, or the bandwidth not positive.

    References:
        Chu, Minami and Fukumizu (2020), Smoothness and Stability in GANs, condition (D3), for the Moreau-Yosida
        envelope in the maximum mean discrepancy.

    Example:
        >>> one, other = torch.zeros(1, 2), torch.full((1, 2), 100.0)
        >>> KernelPenalty(0.5, ridge=0.0)(lambda x: 1 + x.sum(-1) / 100, [one], [other])
        tensor([5.])
    """

    weight: float
    bandwidth: float = 1.0
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        if self.weight < 0 or self.ridge < 0 or not self.bandwidth > 0:
            raise OptionError(
                f"KernelPenalty: weight={self.weight}, ridge={self.ridge}, bandwidth={self.bandwidth}, expected "
                f"a weight and a ridge of 0 or more, and a positive bandwidth."
            )

    def __call__(self, critic: Callable[..., Tensor], first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        r"""The penalty, the same for each pair.

        Args:
            critic: The critic.
            first: The values of the one side, one tensor for each site, shape (rows, \*event).
            second: Those of the other.

        Returns:
            Shape (rows,).
        """
        points = [torch.cat([one, other]).detach() for one, other in zip(first, second, strict=True)]
        scores = critic(*points).reshape(-1)
        flat = torch.cat([point.flatten(1).to(scores.dtype) for point in points], 1)
        square = flat.square().sum(1)
        apart = (square[:, None] + square - 2 * flat @ flat.T).clamp(min=0)
        kernel = (-0.5 * apart / self.bandwidth**2).exp()
        root, _ = torch.linalg.cholesky_ex(kernel + self.ridge * torch.eye(len(flat), dtype=flat.dtype).to(flat))
        norm = torch.linalg.solve_triangular(root, scores[:, None], upper=False).square().sum()
        return (self.weight * norm).expand(len(first[0]))
