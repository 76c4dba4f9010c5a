r"""The spline flow: a density of rows of numbers by coupling layers.

Convention of this module: one observed site ``x`` in the plate ``data``; no latent sites, so that the evidence of a row
is its density and a guide is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.row_flow import RowFlow
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms import Coupling, InvertibleLinear, Spline

__all__ = ["SplineFlow"]


@register("spline_flow")
class SplineFlow(RowFlow):
    r"""Density of rows of numbers by rational-quadratic coupling layers.

    Invertible linear maps lie between the layers, and rows are made standard first.

    .. math:: x = f_n \circ \dots \circ f_1(\epsilon), \quad \epsilon \sim \mathcal N(0, I)

    Args:
        data_dim: Length of a row, at least 2.
        layers: How many pairs of couplings, one for each half.
        hidden: Widths of the hidden layers of each coupling's network.
        bins: Pieces of each spline.

    Raises:
        OptionError: When a size is no positive integer, or ``data_dim`` is 1.

    References:
        Durkan, Bekasov, Murray and Papamakarios (2019), Neural Spline Flows, section 3 and 5.1.

    Example:
        >>> import torch
        >>> program = SplineFlow(data_dim=3, layers=1, hidden=(8,))
        >>> program.model(torch.randn(5, 3)).shape, program.density().log_prob(torch.randn(5, 3)).shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(self, data_dim: int, layers: int = 4, hidden: Sequence[int] = (64, 64), bins: int = 8) -> None:
        check_size("SplineFlow", "data_dim", data_dim)
        widths = check_sizes("SplineFlow", "hidden", hidden)
        parts: list[nn.Module] = []
        for _ in range(check_size("SplineFlow", "layers", layers)):
            parts += [Coupling(data_dim, widths, Spline(bins), swap=swap) for swap in (False, True)]
            parts.append(InvertibleLinear(data_dim))
        super().__init__(data_dim, parts)
