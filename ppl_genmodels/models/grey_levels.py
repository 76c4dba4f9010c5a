r"""What programs of images with levels have in common: a continuous image of which grey levels are seen.

Convention of this module: a latent site ``v``, the continuous image with values from 0 to the number of levels; an
observed site ``x``, the grey levels between 0 and 1 that are seen of it; both in the plate ``data``. The evidence bound
is one on the probability of the grey levels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions.quantized import Quantized
from ppl_genmodels.errors import DataError
from ppl_genmodels.models.checks import check_dtype, check_rows, data_array, missing_data

__all__ = ["GreyLevels"]


class GreyLevels(nn.Module):
    r"""A density of continuous images of which grey levels are seen, and a guide within the cells of the levels.

    .. math:: v \sim p(v), \quad x = \lfloor v \rfloor / (K - 1)

    Args:
        image_shape: (channels, height, width).
        levels: How many levels a pixel has.

    Raises:
        OptionError: When there are fewer than two levels.

    References:
        Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models, section 3.1.
    """

    like: Tensor

    def __init__(self, image_shape: Sequence[int], levels: int) -> None:
        super().__init__()
        self.image_shape, self.levels = tuple(image_shape), levels
        self.register_buffer("like", torch.zeros(()), persistent=False)
        Quantized(self.like, levels)

    @abstractmethod
    def density(self) -> Any:
        """The distribution of a continuous image, with values from 0 to the number of levels."""

    @abstractmethod
    def within_cells(self, x: Tensor) -> Any:
        """The distribution of the guide: of continuous images given grey levels, shape (rows, \\*image_shape)."""

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws an image, or conditions on images.

        Args:
            x: Data to condition on, grey levels between 0 and 1, ``(rows, channels, height, width)``; one image is
                drawn by default.

        Returns:
            The images, observed or drawn.

        Raises:
            DataError: When the data have another shape or dtype, or are no grey levels.
        """
        rows = 1 if x is None else self._checked(x)
        with pyro.plate("data", rows):
            v = pyro.sample("v", self.density())
            return pyro.sample("x", Quantized(v, self.levels).to_event(3), obs=x)

    def guide(self, x: Tensor | None = None) -> Tensor:
        """Continuous images whose cells are the grey levels.

        Args:
            x: Data, as for :meth:`model`.

        Raises:
            ProgramError: When there are no data.
            DataError: When the data have another shape or dtype, or are no grey levels.
        """
        if x is None:
            raise missing_data(self, "x")
        with pyro.plate("data", self._checked(x)):
            return pyro.sample("v", self.within_cells(x))

    def _checked(self, x: Tensor) -> int:
        """The number of images.

        Raises:
            DataError: When they have another shape or dtype, or are no grey levels.
        """
        check_dtype(self, "x", x, like=self.like)
        rows = check_rows(self, "x", x, self.image_shape)
        if dist.is_validation_enabled():
            inside = Quantized(x, self.levels).support.check(x) | x.isnan()
            if not inside.all():
                raise DataError(
                    f"{type(self).__name__}: 'x' has {int((~inside).sum())} values that are none of the {self.levels} "
                    f"grey levels 0, 1/{self.levels - 1}, ..., 1. Remedy: levels=..., the number of values that a "
                    f"pixel can have, or divide levels from 0 to {self.levels - 1} by {self.levels - 1}."
                )
        return rows

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``image_shape``, and the fewest ``levels`` that have every value, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, channels, height, width)``.
        """
        x = data_array(data, "x", cls.__name__)
        if x.ndim != 4:
            raise DataError(
                f"{cls.__name__}: array 'x' has shape {x.shape}, expected (rows, channels, height, width). Remedy: "
                f"x[:, None] for images without channels, x.reshape(-1, channels, height, width) for flat rows."
            )
        levels = fewest_levels(x)
        return {"image_shape": x.shape[1:]} | ({} if levels is None else {"levels": levels})


def fewest_levels(x: np.ndarray) -> int | None:
    """The smallest number of levels, up to 256, whose grey levels between 0 and 1 hold all values; None without one.

    Example:
        >>> fewest_levels(np.array([0.0, 0.25, 1.0])), fewest_levels(np.array([0.0, 7.0]))
        (5, None)
    """
    values = torch.from_numpy(np.unique(x[~np.isnan(x)]))
    return next((k for k in range(2, 257) if Quantized(values, k).support.check(values).all()), None)
