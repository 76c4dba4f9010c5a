r"""The spline flow: a density of rows of numbers by coupling layers.

Convention of this module: one observed site ``x`` in the plate ``data``; no latent sites, so that the evidence of a row
is its density and a guide is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions import Flow
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_rows
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms import ActNorm, Coupling, InvertibleLinear, Spline

__all__ = ["SplineFlow"]


@register("spline_flow")
class SplineFlow(nn.Module):
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
        >>> program = SplineFlow(data_dim=3, layers=1, hidden=(8,))
        >>> program.model(torch.randn(5, 3)).shape, program.density().log_prob(torch.randn(5, 3)).shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, data_dim: int, layers: int = 4, hidden: Sequence[int] = (64, 64), bins: int = 8) -> None:
        super().__init__()
        self.data_dim = check_size("SplineFlow", "data_dim", data_dim)
        widths = check_sizes("SplineFlow", "hidden", hidden)
        parts: list[nn.Module] = []
        for _ in range(check_size("SplineFlow", "layers", layers)):
            parts += [Coupling(data_dim, widths, Spline(bins), swap=swap) for swap in (False, True)]
            parts.append(InvertibleLinear(data_dim))
        self.transforms = nn.ModuleList([*parts, ActNorm(data_dim)])
        self.register_buffer("loc", torch.zeros(data_dim), persistent=False)
        self.register_buffer("scale", torch.ones(data_dim), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``data_dim``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, data_dim)``.
        """
        return {"data_dim": data_rows(data, "x", "SplineFlow").shape[1]}

    def density(self) -> Flow:
        """The distribution of a row."""
        return Flow(dist.Normal(self.loc, self.scale).to_event(1), self.transforms)

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws a row, or conditions on rows.

        Args:
            x: Data to condition on, ``(rows, data_dim)``; one row is drawn by default.

        Returns:
            The rows, observed or drawn.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        if x is not None:
            check_dtype(self, "x", x, like=self.loc)
        with pyro.plate("data", 1 if x is None else check_rows(self, "x", x, (self.data_dim,))):
            return pyro.sample("x", self.density(), obs=x)
