"""Some rows of an array, chosen without copying them.

Convention of this module: a selection is read like the array it is of, by a slice or by positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Selection"]


@dataclass(frozen=True)
class Selection:
    """Rows of an array or a tensor, in a given order.

    Attributes:
        array: An array or a tensor, rows first; a memory map stays on disk.
        order: Positions of the rows.

    Example:
        >>> Selection(np.arange(5) ** 2, np.array([4, 2]))[:]
        array([16,  4])
    """

    array: Any
    order: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of each."""
        return (len(self.order), *self.array.shape[1:])

    @property
    def dtype(self) -> Any:
        """The array's."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> Any:
        return self.array[self.order[index]]
