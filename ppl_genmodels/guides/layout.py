"""Moving between the batch dims of plates and one vector per datum, as networks take it.

Convention of this module: a batch is (*extra, *plates, width), where ``plates`` are the model's
``nesting`` batch dims and ``extra`` stands for particles to their left. Per datum means (*extra,
rows, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ppl_genmodels.structure import Plate

__all__ = ["Layout", "joined"]


def joined(vectors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Vectors per datum side by side.

    Args:
        vectors: Each of shape (*extra, rows or 1, width).
        dtype: Of the result.

    Returns:
        Shape (*extra, rows, sum of widths).

    Example:
        >>> joined([torch.zeros(5, 2), torch.zeros(7, 1, 3)], torch.float32).shape
        torch.Size([7, 5, 5])
    """
    leading = torch.broadcast_shapes(*(part.shape[:-1] for part in vectors))
    return torch.cat([part.expand(*leading, -1) for part in vectors], -1).to(dtype)


@dataclass(frozen=True)
class Layout:
    """Where one site's plates lie among the batch dims.

    Attributes:
        nesting: How many batch dims the model's plates take.
        rows_dim: The batch dim of the data, counted from the right; None for a global site.
        sizes: Sizes of the batch dims of the site, leftmost first, from its outermost plate dim to
            -1; the rows' entry is not used.

    Example:
        >>> pixels = Layout.of((Plate("data", -1, 5, 5), Plate("pixels", -2, 3, 3)), 2, -1)
        >>> per_datum = pixels.per_datum(torch.zeros(3, 5, 4))
        >>> per_datum.shape, pixels.per_element(per_datum).shape
        (torch.Size([5, 12]), torch.Size([3, 5, 4]))
    """

    nesting: int
    rows_dim: int | None
    sizes: tuple[int, ...]

    @staticmethod
    def of(plates: Sequence[Plate], nesting: int, rows_dim: int | None) -> Layout:
        """The layout of a site inside these plates."""
        by_dim = {plate.dim: plate.size for plate in plates}
        deepest = max((-dim for dim in by_dim), default=0)
        sizes = tuple(by_dim.get(dim, 1) for dim in range(-deepest, 0))
        return Layout(nesting, rows_dim, sizes)

    @property
    def elements(self) -> int:
        """How many elements of the site there are per datum, or in all for a global site."""
        return prod(self._inner_sizes)

    def per_datum(self, batch: Tensor) -> Tensor:
        """One vector per datum: the elements of inner plates side by side.

        Args:
            batch: Shape (*extra, *plates, width), leading plate dims of size 1 left out or not.

        Returns:
            Shape (*extra, rows, elements * width); rows is 1 for a global site.
        """
        missing = self.nesting - (batch.dim() - 1)
        batch = batch.reshape((1,) * missing + tuple(batch.shape))
        extra = batch.shape[: batch.dim() - 1 - self.nesting]
        if self.rows_dim is None:
            return batch.reshape(*extra, 1, -1)
        batch = batch.movedim(self.rows_dim - 1, len(extra))
        return batch.reshape(*extra, batch.shape[len(extra)], -1)

    def per_element(self, vectors: Tensor) -> Tensor:
        """The inverse of :meth:`per_datum` for a local site.

        Args:
            vectors: Shape (*extra, rows, elements * width).

        Returns:
            Shape (*extra, *plates, width), without the plate dims left of the site's own when there
            is no extra.
        """
        if self.rows_dim is None:
            raise ValueError("a global site has no rows to lay out")
        *extra, rows, _ = vectors.shape
        outside = (1,) * (self.nesting - len(self.sizes) if extra else 0)
        batch = vectors.reshape(*extra, rows, *outside, *self._inner_sizes, -1)
        return batch.movedim(len(extra), self.rows_dim - 1)

    @property
    def _inner_sizes(self) -> tuple[int, ...]:
        if self.rows_dim is None:
            return self.sizes
        place = len(self.sizes) + self.rows_dim
        return self.sizes[:place] + self.sizes[place + 1 :]
