"""Rows of one array as a tensor.

Convention of this module: rows that are chosen by position are copied once, where the array lies; a slice of a tensor
is a view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_genmodels.data.selection import Selection

__all__ = ["Index", "gather", "is_mapped", "send", "size_in_bytes", "standard"]

Index = Sequence[int] | Tensor | slice

PIECE = 2**26
"""Bytes that are sent to a device at a time, so that a memory map is never whole in memory."""


def gather(array: Any, index: Index) -> Tensor:
    """Some rows of an array, a tensor, or a selection of their rows.

    Example:
        >>> gather(np.arange(5.0, dtype=np.float32), [3, 1])
        tensor([3., 1.])
    """
    if isinstance(array, Selection):
        positions = array.order[index if isinstance(index, slice) else np.asarray(index)]
        return gather(array.array, torch.from_numpy(positions))
    if isinstance(array, Tensor):
        if isinstance(index, slice):
            return array[index].contiguous()
        return array.index_select(0, torch.as_tensor(index, dtype=torch.int64, device=array.device))
    if isinstance(index, slice):
        return torch.from_numpy(np.array(array[index], dtype=_native(array.dtype), order="C"))
    return torch.from_numpy(np.asarray(array[np.asarray(index)], dtype=_native(array.dtype), order="C"))


def standard(value: Any, floating: torch.dtype) -> Any:
    """A tensor in the dtype that programs are given; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return value.to(floating if value.is_floating_point() or value.dtype == torch.bool else torch.int64)


def is_mapped(array: Any) -> bool:
    """Whether an array lies on the disk."""
    return isinstance(array.array if isinstance(array, Selection) else array, np.memmap)


def size_in_bytes(array: Any) -> int:
    """The bytes that an array takes.

    Example:
        >>> size_in_bytes(Selection(np.zeros((5, 2), np.float32), np.array([0, 1])))
        16
    """
    return math.prod(array.shape) * int(array.dtype.itemsize)


def send(array: Any, device: torch.device) -> Tensor:
    """A whole array on a device, in its own dtype where torch can choose rows of it and in ``int64`` otherwise.

    Example:
        >>> send(np.arange(3, dtype=np.uint16), torch.device("cpu"))
        tensor([0, 1, 2])
    """
    if isinstance(array, Tensor) and array.device == device:
        return array
    dtype = gather(array, slice(0, 1)).dtype
    wide = (torch.uint16, torch.uint32, torch.uint64)
    sent = torch.empty(tuple(array.shape), dtype=torch.int64 if dtype in wide else dtype, device=device)
    rows = max(1, PIECE * len(array) // max(1, size_in_bytes(array)))
    for start in range(0, len(array), rows):
        sent[start : start + rows] = gather(array, slice(start, start + rows)).to(sent.dtype)
    return sent


def _native(dtype: Any) -> Any:
    """A dtype that torch knows: of this machine's byte order, and no longer than 64 bits."""
    return np.float64 if dtype == np.longdouble else dtype.newbyteorder("=")
