"""Data as rows: arrays whose first dim counts the data, handed to a program by position or by name.

Convention of this module: rows stay where they are (a memory map stays on disk) until they are taken; floating-point
numbers become the default dtype, booleans too, integers become int64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from ppl_genmodels.errors import DataError

__all__ = ["Rows", "arguments"]

_CHUNK = 65536


@dataclass(frozen=True)
class Rows:
    """A data set as the arguments of a program.

    Attributes:
        positional: Arrays for the program's positional arguments.
        named: Arrays for its keyword arguments.
        dataset: A map-style data set whose items are collated, in place of arrays.

    Example:
        >>> rows = Rows.of({"x": np.zeros((4, 2)), "y": np.arange(4)})
        >>> args, kwargs = rows.take([0, 2])
        >>> kwargs["x"].shape, kwargs["y"]
        (torch.Size([2, 2]), tensor([0, 2]))
    """

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] | None = None
    dataset: Dataset[Any] | None = None

    @classmethod
    def of(cls, data: Any, what: str = "data") -> Rows:
        """Rows of an array, a tensor, a frame, a dict of them, a tuple of them, or a map-style ``Dataset``.

        Args:
            data: The data.
            what: What to call them in messages.

        Raises:
            DataError: When they are empty, of unequal length, not numeric, or infinite.
        """
        if isinstance(data, Rows):
            return data
        if isinstance(data, TensorDataset):
            data = data.tensors
        if isinstance(data, Dataset):
            return cls._of_dataset(data, what)
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
    def _of_dataset(cls, dataset: Dataset[Any], what: str) -> Rows:
        if not hasattr(dataset, "__len__") or len(dataset) == 0:
            raise DataError(
                f"{what}: a {type(dataset).__name__} without a length, or an empty one, cannot be used. "
                f"Remedy: pass a map-style Dataset with at least one item."
            )
        return cls(dataset=dataset)

    def __len__(self) -> int:
        if self.dataset is not None:
            return len(self.dataset)  # type: ignore[arg-type]
        return len(next(iter(self.arrays().values())))

    def arrays(self, what: str = "data") -> dict[str, Any]:
        """The arrays by name; positional ones are called ``data``, ``data[1]``, ..."""
        names = [what if i == 0 else f"{what}[{i}]" for i in range(len(self.positional))]
        return {**dict(zip(names, self.positional, strict=True)), **(self.named or {})}

    def take(self, index: Sequence[int] | Tensor | slice) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for some rows, as tensors on the host."""
        if self.dataset is not None:
            positions = range(len(self))[index] if isinstance(index, slice) else index
            return arguments(default_collate([self.dataset[int(i)] for i in positions]))
        positional = tuple(_tensor(array, index) for array in self.positional)
        return positional, {name: _tensor(a, index) for name, a in (self.named or {}).items()}

    def subset(self, index: Sequence[int]) -> Rows:
        """Some of the rows, as rows."""
        if self.dataset is not None:
            return Rows(dataset=torch.utils.data.Subset(self.dataset, list(index)))
        return Rows(*self.take(index))

    def extremes(self, count: int = 2) -> list[int]:
        """The first rows and those that hold each array's smallest and largest value: a batch worth validating."""
        index = set(range(min(count, len(self))))
        for array in self.arrays().values():
            flat = np.asarray(array).reshape(len(self), -1)
            if flat.dtype.kind in "fiu" and flat.size:
                low, high = (
                    np.where(np.isnan(flat), np.inf, flat),
                    np.where(np.isnan(flat), -np.inf, flat),
                )
                index |= {int(low.min(1).argmin()), int(high.max(1).argmax())}
        return sorted(index)

    @property
    def missing(self) -> int:
        """How many values are NaN."""
        arrays = self.arrays().values() if self.dataset is None else ()
        return sum(_count(np.isnan, chunk) for array in arrays for chunk in _chunks(array))

    def summary(self) -> dict[str, Any]:
        """Row count, and the shape and dtype of each array, for the record."""
        if self.dataset is not None:
            return {"rows": len(self), "dataset": type(self.dataset).__name__}
        arrays = {
            name: {"shape": list(array.shape), "dtype": str(array.dtype).removeprefix("torch.")}
            for name, array in self.arrays().items()
        }
        return {"rows": len(self), "arrays": arrays, "missing": self.missing}


def _array(value: Any, name: str) -> Any:
    if isinstance(value, Tensor):
        array: Any = value.detach()
        numeric = not value.is_complex()
    else:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
        numeric = array.dtype.kind in "biuf"
    if not numeric:
        raise DataError(
            f"{name} has dtype {array.dtype}, expected numbers. Remedy: encode text and categories as integers, "
            f"and give ragged rows one length."
        )
    if array.ndim == 0 or 0 in array.shape:
        raise DataError(
            f"{name} is empty: shape {tuple(array.shape)}. Remedy: give at least one row."
        )
    return array


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
    row = 0
    for chunk in _chunks(array):
        if np.isinf(chunk).any():
            where = np.argwhere(np.isinf(chunk))[0]
            where[0] += row
            raise DataError(
                f"{name} is infinite at index {tuple(int(i) for i in where)}. Remedy: remove that row, or mark the "
                f"value as missing with NaN."
            )
        row += len(chunk)


def _chunks(array: Any) -> list[Any]:
    """Floating-point parts of an array, read a piece at a time; nothing for other dtypes."""
    if isinstance(array, Tensor):
        array = array.cpu().numpy() if array.is_floating_point() else np.empty(0, dtype=int)
    if array.dtype.kind != "f":
        return []
    return [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]


def _count(test: Any, array: Any) -> int:
    return int(test(array).sum())


def _tensor(array: Any, index: Sequence[int] | Tensor | slice) -> Tensor:
    if isinstance(array, Tensor):
        part = array[index] if isinstance(index, slice) else array[torch.as_tensor(index)]
    else:
        part = torch.from_numpy(
            np.array(array[index if isinstance(index, slice) else np.asarray(index)])
        )
    if part.is_floating_point() or part.dtype == torch.bool:
        return part.to(torch.get_default_dtype())
    return part.to(torch.int64)


def arguments(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One collated item as positional and keyword arguments: a dict by name, a tuple by position.

    Example:
        >>> arguments([1, 2])
        ((1, 2), {})
    """
    if isinstance(item, Mapping):
        return (), dict(item)
    return (tuple(item) if isinstance(item, tuple | list) else (item,)), {}
