"""Data as rows: arrays whose first dim counts the data, handed to a program by position or by name.

Convention of this module: rows stay where they are (a memory map stays on disk) until they are taken; floating-point
numbers become the default dtype, booleans too, integers become int64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from ppl_genmodels.data.gather import Index, gather, send, size_in_bytes, standard
from ppl_genmodels.data.scan import count_missing, first_infinite, first_missing, hard_rows
from ppl_genmodels.data.selection import Selection
from ppl_genmodels.data.sources import LoadedData
from ppl_genmodels.errors import DataError

__all__ = ["Rows", "arguments"]

SAMPLE = 1000
"""Rows by which a data set is recognised."""


@dataclass(frozen=True)
class Rows:
    """A data set as the arguments of a program.

    Without arrays it stands for one run of a program that takes none, and has one row.

    Attributes:
        positional: Arrays for the program's positional arguments.
        named: Arrays for its keyword arguments.
        dataset: A map-style data set whose items are collated, in place of arrays.
        collate: From items of the data set to a batch.

    Example:
        >>> rows = Rows.of({"x": np.zeros((4, 2)), "y": np.arange(4)})
        >>> args, kwargs = rows.take([0, 2])
        >>> kwargs["x"].shape, kwargs["y"]
        (torch.Size([2, 2]), tensor([0, 2]))
    """

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] | None = None
    dataset: Dataset[Any] | None = None
    collate: Callable[[list[Any]], Any] = default_collate

    @classmethod
    def of(cls, data: Any, what: str = "data") -> Rows:
        """Rows of an array, a tensor, a frame, a dict or a tuple of them, a map-style ``Dataset``, or a ``DataLoader``.

        Args:
            data: The data; None for a program that is called without any.
            what: What to call them in messages.

        Raises:
            DataError: When they are empty, of unequal length, not numeric, or infinite.
        """
        if isinstance(data, Rows):
            return data
        if data is None:
            return cls()
        if isinstance(data, LoadedData):
            data = data.data
        collate: Callable[[list[Any]], Any] = default_collate
        if isinstance(data, DataLoader):
            data, collate = data.dataset, data.collate_fn
        if isinstance(data, TensorDataset) and collate is default_collate:
            data = data.tensors
        if isinstance(data, Dataset):
            return cls._of_dataset(data, what, collate)
        if isinstance(data, Mapping):
            rows = cls(named={str(name): _array(value, str(name)) for name, value in data.items()})
        else:
            values = data if isinstance(data, tuple) else (data,)
            names = [what] if len(values) == 1 else [f"{what}[{i}]" for i in range(len(values))]
            rows = cls(tuple(_array(v, n) for v, n in zip(values, names, strict=True)))
        _check_lengths(rows.arrays(what), what)
        for name, array in rows.arrays(what).items():
            _check_finite(array, name)
        return rows

    @classmethod
    def _of_dataset(cls, dataset: Dataset[Any], what: str, collate: Callable[[list[Any]], Any]) -> Rows:
        map_style = hasattr(dataset, "__len__") and not isinstance(dataset, IterableDataset)
        if not map_style or len(dataset) == 0:  # type: ignore[arg-type]
            raise DataError(
                f"{what}: a {type(dataset).__name__} without a length or without items by number, or an empty one, "
                f"cannot be used. Remedy: pass a map-style Dataset with at least one item."
            )
        return cls(dataset=dataset, collate=collate)

    def __len__(self) -> int:
        if self.dataset is not None:
            return len(self.dataset)  # type: ignore[arg-type]
        return next((len(array) for array in self.arrays().values()), 1)

    def arrays(self, what: str = "data") -> dict[str, Any]:
        """The arrays by name; positional ones are called ``data``, ``data[1]``, ..."""
        names = [what if i == 0 else f"{what}[{i}]" for i in range(len(self.positional))]
        return {**dict(zip(names, self.positional, strict=True)), **(self.named or {})}

    def take(self, index: Index, floating: torch.dtype | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for some rows, as tensors where the arrays lie.

        Args:
            index: Positions, or a slice.
            floating: The dtype of numbers that are not integers; torch's default one when None.
        """
        floating = torch.get_default_dtype() if floating is None else floating
        if self.dataset is not None:
            positions = range(len(self))[index] if isinstance(index, slice) else index
            return arguments(self.collate([self.dataset[int(i)] for i in positions]), floating)
        positional = tuple(standard(gather(array, index), floating) for array in self.positional)
        return positional, {name: standard(gather(a, index), floating) for name, a in (self.named or {}).items()}

    @property
    def size_in_bytes(self) -> int:
        """The bytes that the arrays take; 0 for a data set, whose items are made when they are taken."""
        return sum(map(size_in_bytes, self.arrays().values()))

    def sent_to(self, device: torch.device) -> Rows:
        """The same rows with their arrays as tensors on a device."""
        positional = tuple(send(array, device) for array in self.positional)
        named = {name: send(array, device) for name, array in (self.named or {}).items()}
        return Rows(positional, named, self.dataset, self.collate)

    def subset(self, index: Sequence[int]) -> Rows:
        """Some of the rows, as rows; nothing is copied."""
        if self.dataset is not None:
            return Rows(dataset=Subset(self.dataset, list(index)), collate=self.collate)
        order = np.asarray(index, dtype=np.int64)
        positional = tuple(Selection(array, order) for array in self.positional)
        return Rows(positional, {name: Selection(a, order) for name, a in (self.named or {}).items()})

    def extremes(self, count: int = 2) -> list[int]:
        """The first rows and those at the limits of each array: a batch worth validating.

        The limits are the largest and the smallest value, the first NaN, and the first fraction.
        """
        index = set(range(min(count, len(self))))
        return sorted(index.union(*(hard_rows(array) for array in self.arrays().values())))

    @cached_property
    def missing(self) -> int:
        """How many values are NaN; 0 for a data set, which is not read through."""
        return sum(count_missing(array) for array in self.arrays().values())

    def first_missing(self) -> tuple[str, tuple[int, ...]] | None:
        """The name of an array and the index of its first NaN."""
        for name, array in self.arrays().items():
            index = first_missing(array)
            if index is not None:
                return name, index
        return None

    def summary(self) -> dict[str, Any]:
        """Row count, the shape and dtype of each array, and a digest of some rows, for the record."""
        if self.dataset is not None:
            return {"rows": len(self), "dataset": type(self.dataset).__name__}
        arrays = {
            name: {"shape": list(array.shape), "dtype": str(array.dtype).removeprefix("torch.")}
            for name, array in self.arrays().items()
        }
        return {"rows": len(self), "arrays": arrays, "missing": self.missing, "digest": self._digest()}

    def _digest(self) -> str:
        """A hash of evenly spaced rows, by which a run that is resumed knows its data."""
        count = min(len(self), SAMPLE)
        args, kwargs = self.take([i * len(self) // count for i in range(count)])
        digest = hashlib.sha256()
        for tensor in (*args, *(kwargs[name] for name in sorted(kwargs))):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def _array(value: Any, name: str) -> Any:
    if isinstance(value, Tensor):
        array: Any = value.detach()
        numeric = not value.is_complex()
    else:
        array = _as_numpy(value, name)
        numeric = array.dtype.kind in "biuf"
    if not numeric:
        raise DataError(
            f"{name} has dtype {array.dtype}, expected numbers. Remedy: encode text and categories as integers, "
            f"and give missing values as NaN."
        )
    if array.ndim == 0:
        raise DataError(f"{name} is the single number {array.item()}, expected rows. Remedy: an array, rows first.")
    if 0 in array.shape:
        raise DataError(f"{name} is empty: shape {tuple(array.shape)}. Remedy: give at least one row.")
    return array


def _as_numpy(value: Any, name: str) -> np.ndarray[Any, Any]:
    if value is None or isinstance(value, str | bytes | Path):
        raise DataError(
            f"{name} is {value!r}, expected numbers. Remedy: read a file or a built-in data set with "
            f"ppl_genmodels.data.load(...).data."
        )
    try:
        return value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as error:
        raise DataError(f"{name} is no array: {error} Remedy: give rows of one length, padded with NaN.") from error


def _check_lengths(arrays: dict[str, Any], what: str) -> None:
    if not arrays:
        raise DataError(f"{what} holds no array. Remedy: give at least one.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"{what}: arrays have different numbers of rows: {listed}. Remedy: give each array one row per datum; "
            f"constants of the whole program belong in its constructor."
        )


def _check_finite(array: Any, name: str) -> None:
    index = first_infinite(array)
    if index is not None:
        raise DataError(
            f"{name} is infinite at index {index}. Remedy: remove that row, or mark the value as missing with NaN."
        )


def arguments(item: Any, floating: torch.dtype | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One collated item as positional and keyword arguments: a dict by name, a tuple by position.

    Example:
        >>> arguments([1, 2])
        ((1, 2), {})
    """
    floating = torch.get_default_dtype() if floating is None else floating
    if isinstance(item, Mapping):
        return (), {name: standard(value, floating) for name, value in item.items()}
    values = item if isinstance(item, tuple | list) else (item,)
    return tuple(standard(value, floating) for value in values), {}
