"""What must be known of an array before it is used, read in pieces so that a memory map stays on disk.

Convention of this module: an array has its rows first; a piece is some consecutive rows of it as a NumPy array
(rows, columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["count_missing", "first_infinite", "first_missing", "hard_rows"]

PIECE = 2**22
"""Numbers in a piece."""
COLUMNS = 64
"""Arrays with more columns are searched for hard rows as a whole, not column by column."""

Numbers = NDArray[Any]
Index = tuple[int, ...]


def count_missing(array: Any) -> int:
    """How many values are NaN.

    Example:
        >>> count_missing(np.array([[1.0, np.nan], [np.nan, 2.0]]))
        2
    """
    return sum(int(np.isnan(piece).sum()) for _, piece in _pieces(array)) if _floating(array) else 0


def first_missing(array: Any) -> Index | None:
    """The index of the first NaN, or None.

    Example:
        >>> first_missing(np.array([[1.0, np.nan], [np.nan, 2.0]]))
        (0, 1)
    """
    return _first(array, np.isnan)


def first_infinite(array: Any) -> Index | None:
    """The index of the first infinite value, or None."""
    return _first(array, np.isinf)


def hard_rows(array: Any) -> set[int]:
    """The rows with the largest value, the smallest, the first NaN and the first fraction, of each column.

    A program that takes these rows has seen the limits of the data: a value outside the support of its likelihood
    is the largest, the smallest, or a fraction among whole numbers.

    Example:
        >>> sorted(hard_rows(np.array([0.0, 1.0, 0.5, 1.0, -3.0])))
        [1, 2, 4]
    """
    scores: list[Callable[[Numbers], Numbers]] = [_upwards, _downwards]
    if _floating(array):
        scores += [_missing, _fraction]
    return {row for score in scores for row in _highest(array, score)}


def _pieces(array: Any) -> Iterator[tuple[int, Numbers]]:
    """Each piece with the number of its first row."""
    rows = max(1, PIECE // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        piece = array[start : start + rows]
        if isinstance(piece, Tensor):
            piece = (piece.float() if piece.dtype == torch.bfloat16 else piece).cpu().numpy()
        yield start, np.asarray(piece).reshape(len(piece), -1)


def _floating(array: Any) -> bool:
    dtype = array.dtype
    return dtype.is_floating_point if isinstance(dtype, torch.dtype) else dtype.kind == "f"


def _first(array: Any, test: Callable[[Numbers], Numbers]) -> Index | None:
    for start, piece in _pieces(array) if _floating(array) else ():
        found = test(piece)
        if found.any():
            row, column = divmod(int(found.argmax()), piece.shape[1])
            return (start + row, *(int(i) for i in np.unravel_index(column, array.shape[1:])))
    return None


def _highest(array: Any, score: Callable[[Numbers], Numbers]) -> set[int]:
    """The first row with the highest score, for each column that has one above minus infinity."""
    best_of_pieces, rows_of_pieces = [], []
    for start, piece in _pieces(array):
        value = score(piece)
        if value.shape[1] > COLUMNS:
            value = value.max(1, keepdims=True)
        best_of_pieces.append(value.max(0))
        rows_of_pieces.append(start + value.argmax(0))
    best, rows = np.stack(best_of_pieces), np.stack(rows_of_pieces)
    highest = rows[best.argmax(0), np.arange(rows.shape[1])]
    return {int(row) for row in highest[best.max(0) > -np.inf]}


def _upwards(piece: Numbers) -> Numbers:
    return np.where(np.isnan(piece), -np.inf, piece)


def _downwards(piece: Numbers) -> Numbers:
    return np.where(np.isnan(piece), -np.inf, -1.0 * piece)


def _missing(piece: Numbers) -> Numbers:
    return np.where(np.isnan(piece), 0.0, -np.inf)


def _fraction(piece: Numbers) -> Numbers:
    return np.where(np.floor(piece) < piece, 0.0, -np.inf)
