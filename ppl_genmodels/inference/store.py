"""Where draws go while they are made: arrays in memory, or anything else that can be written in pieces.

Convention of this module: an array is made once, of its full size, and filled piece by piece, so that nothing is held
twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from ppl_genmodels.errors import DataError, nearest
from ppl_genmodels.inference.site_arrays import Array

__all__ = ["Labels", "MemoryStore", "Store", "Writable", "check_labels"]

Labels: TypeAlias = Mapping[str, Sequence[Any] | Array]
"""Labels of dims, by name of the dim."""


class Writable(Protocol):
    """An array that can be filled."""

    def __setitem__(self, index: Any, value: Any, /) -> None:
        """Writes a piece."""


class Store(Protocol):
    """Takes the variables of a posterior."""

    def begin(self, sizes: Mapping[str, int]) -> None:
        """Is told the size of every dim before the first variable, and may refuse."""

    def create(self, group: str, name: str, dims: tuple[str, ...], shape: tuple[int, ...], piece: Array) -> Writable:
        """Makes room for a variable.

        Args:
            group: Such as ``"posterior"``.
            name: Of the variable.
            dims: The names of its dims.
            shape: Its full size.
            piece: What will be written first: of the variable's dtype, and as large as the others will be.
        """


class MemoryStore:
    """Variables as NumPy arrays.

    Attributes:
        groups: The arrays, by group and name.

    Example:
        >>> store = MemoryStore()
        >>> store.create("posterior", "z", ("draw",), (4,), np.ones(2))[:2] = 1.0
        >>> store.groups["posterior"]["z"].shape
        (4,)
    """

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Array]] = {}

    def begin(self, sizes: Mapping[str, int]) -> None:
        """Takes any sizes."""

    def create(self, group: str, name: str, dims: tuple[str, ...], shape: tuple[int, ...], piece: Array) -> Writable:
        """Makes room for a variable."""
        array = np.empty(shape, piece.dtype)
        self.groups.setdefault(group, {})[name] = array
        return array


def check_labels(labels: Labels, sizes: Mapping[str, int]) -> None:
    """Checks that labels name dims that are there, and that there is one for each place.

    Args:
        labels: The labels.
        sizes: How long each dim is.

    Raises:
        DataError: When they do not.

    Example:
        >>> check_labels({"school": ["Choate", "Deerfield"]}, {"school": 2})
    """
    for name, given in labels.items():
        if name not in sizes:
            close = nearest(name, sizes)
            hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
            known = ", ".join(map(repr, sorted(sizes))) or "none"
            raise DataError(f"coords: no dim '{name}'.{hint} Known dims: {known}.")
        if len(given) != sizes[name]:
            raise DataError(
                f"coords: dim '{name}' has length {sizes[name]}, got {len(given)} labels. Give one label for each."
            )
