r"""What flows of rows of numbers have in common.

Convention of this module: one observed site ``x`` in the plate ``data``; the last transform, ActNorm, makes rows
standard.
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
from ppl_genmodels.models.checks import check_dtype, check_rows, data_rows
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms import ActNorm

__all__ = ["RowFlow"]


class RowFlow(nn.Module):
    """A flow of rows from standard normal noise.

    Args:
        data_dim: Length of a row.
        transforms: From noise to rows that are standard.
        augmented: How many numbers the flow has beside those of a row.

    Raises:
        OptionError: When ``data_dim`` is no positive integer.

    Example:
        >>> from ppl_genmodels.transforms import InvertibleLinear
        >>> RowFlow(3, [InvertibleLinear(3)]).model().shape
        torch.Size([1, 3])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, data_dim: int, transforms: Sequence[nn.Module], augmented: int = 0) -> None:
        super().__init__()
        self.data_dim = check_size(type(self).__name__, "data_dim", data_dim)
        features = self.data_dim + augmented
        self.transforms = nn.ModuleList([*transforms, ActNorm(features)])
        self.register_buffer("loc", torch.zeros(features), persistent=False)
        self.register_buffer("scale", torch.ones(features), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``data_dim``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, data_dim)``.
        """
        return {"data_dim": data_rows(data, "x", cls.__name__).shape[1]}

    def density(self) -> Flow:
        """The distribution of a row, with what is augmented behind it."""
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
        with pyro.plate("data", 1 if x is None else self.checked(x)):
            return self.row(x)

    def row(self, x: Tensor | None) -> Tensor:
        """The sites of a row, inside the plate."""
        return pyro.sample("x", self.density(), obs=x)

    def checked(self, x: Tensor) -> int:
        """The number of rows.

        Raises:
            DataError: When they have another shape or dtype.
        """
        check_dtype(self, "x", x, like=self.loc)
        return check_rows(self, "x", x, (self.data_dim,))
