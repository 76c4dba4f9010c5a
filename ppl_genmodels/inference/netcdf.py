"""A posterior on disk while it is made: a netCDF-4 file that appears whole under its name, or not at all.

Convention of this module: groups and dims are laid out as xarray and ArviZ read them. Rows have no coordinate of their
own unless the reader wants labels: one number for each row would be held in memory by whoever opens the file.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import h5netcdf  # type: ignore[import-untyped]
import h5py  # type: ignore[import-untyped]
import numpy as np

from ppl_genmodels.errors import RunFolderError
from ppl_genmodels.inference.site_arrays import Array
from ppl_genmodels.inference.store import Labels, check_labels

__all__ = ["NetcdfStore"]

CHUNK = 2**19
"""Bytes of a variable that lie together on disk: as many as HDF5 collects before it writes."""


class NetcdfStore:
    """Variables in a netCDF-4 file.

    A context manager: the file is written under another name and gets its own when the context ends. It is removed
    when the context ends by an error or an interruption.

    Args:
        path: Where the file shall be; replaced when it is there.
        labels: For each dim that has them its labels; the other dims are numbered, except that of the rows.

    Raises:
        RunFolderError: When it cannot be written.

    Example:
        >>> import tempfile, xarray
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "posterior.nc"
        ...     with NetcdfStore(path) as store:
        ...         store.create("posterior", "z", ("draw",), (4,), np.ones(2))[0:2] = 7.0
        ...         store.finish({}, {})
        ...     with xarray.open_dataset(path, group="posterior") as posterior:
        ...         posterior["z"].values
        array([7., 7., 0., 0.])
    """

    def __init__(self, path: str | Path, labels: Labels | None = None) -> None:
        self.path, self.labels = Path(path), labels or {}
        self._partial = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.partial")
        self._file: Any = None
        self._size = 0

    def __enter__(self) -> NetcdfStore:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._bytes = _Bytes(self._partial, "x+")
        except OSError as error:
            raise self._failed(error) from error
        self._file = h5netcdf.File(self._bytes, "w")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.close()
                self.check()
                self._bytes.close()
                os.replace(self._partial, self.path)
        except OSError as failure:
            raise self._failed(failure) from failure
        finally:
            self._discard()

    def begin(self, sizes: Mapping[str, int]) -> None:
        """Checks the labels against the size of every dim.

        Raises:
            DataError: When they do not fit.
        """
        check_labels(self.labels, sizes)

    def create(
        self,
        group: str,
        name: str,
        dims: tuple[str, ...],
        shape: tuple[int, ...],
        piece: Array,
        attrs: Mapping[str, str] | None = None,
    ) -> _Variable:
        """Makes room for a variable, maybe with attributes of its own.

        Raises:
            RunFolderError: When it cannot be written.
        """
        place = self._file.groups.get(group) or self._file.create_group(group)
        for dim, size in zip(dims, shape, strict=True):
            if dim not in place.dimensions:
                place.dimensions[dim] = size
        boolean = piece.dtype == np.bool_
        dtype = np.dtype(np.int8) if boolean else piece.dtype
        chunks = _chunks(shape, piece) if shape else None
        self._reserve(dtype.itemsize * math.prod(shape))
        variable = place.create_variable(name, dims, dtype, chunks=chunks)
        variable.attrs.update({**(attrs or {}), **({"dtype": "bool"} if boolean else {})})  # as xarray marks it
        return _Variable(self, variable)

    def _reserve(self, size: int) -> None:
        """Fails before hours of work where it would fail after them."""
        self._size += size
        missing, free = self._size - os.fstat(self._bytes.fileno()).st_size, shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise self._failed(OSError(f"it takes {missing / 2**30:.3g} GiB more, and {free / 2**30:.3g} GiB are free"))

    def read(self, group: str, name: str) -> Any:
        """A variable that was written: its shape, and its parts by indexing."""
        return self._file.groups[group].variables[name]

    def finish(self, attrs: Mapping[str, str], group_attrs: Mapping[str, str], rows: str | None = None) -> None:
        """Writes attributes, and labels or numbers of the dims.

        Args:
            attrs: Attributes of the file.
            group_attrs: Attributes of every group.
            rows: The dim of the rows.

        Raises:
            RunFolderError: When it cannot be written.
        """
        self._file.attrs.update(attrs)
        for place in self._file.groups.values():
            place.attrs.update(group_attrs)
            for dim, length in place.dimensions.items():
                if dim in self.labels:
                    _label(place, dim, np.asarray(self.labels[dim]))
                elif dim != rows:
                    _label(place, dim, np.arange(length.size))
        self.check()

    def check(self) -> None:
        """Says what failed in writing, and what to do.

        Raises:
            RunFolderError: When something did.
        """
        if self._bytes.error is not None:
            raise self._failed(self._bytes.error) from self._bytes.error

    def _failed(self, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"could not write {self.path}: {error}. Remedy: free space on that disk, or choose another place; "
            f"nothing was left there."
        )

    def _discard(self) -> None:
        """Closes what is open and removes what has no name yet; a file that has got its name stays."""
        with suppress(Exception):
            self._file.close()
        self._bytes.close()
        with suppress(FileNotFoundError):
            self._partial.unlink()


class _Bytes(io.FileIO):
    """A file that remembers the first failure to write in place of failing: HDF5 cannot even be closed after one."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.error is None and rest:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


class _Variable:
    """A variable that is being filled."""

    def __init__(self, store: NetcdfStore, variable: Any) -> None:
        self._store, self._variable = store, variable

    def __setitem__(self, index: Any, value: Any) -> None:
        self._variable[index] = value
        self._store.check()


def _chunks(shape: tuple[int, ...], piece: Array) -> tuple[int, ...]:
    """How a variable is cut on disk: like the pieces, made longer or shorter along the rows to :data:`CHUNK` bytes."""
    sizes = list(piece.shape)
    growing = [axis for axis, size in enumerate(shape) if size > sizes[axis]]
    if growing:
        rows = growing[-1]
        fit = CHUNK // max(1, piece.itemsize * piece.size)
        sizes[rows] = min(shape[rows], sizes[rows] * max(1, fit))
    while piece.itemsize * np.prod(sizes) > CHUNK and max(sizes) > 1:
        longest = int(np.argmax(sizes))
        sizes[longest] = -(-sizes[longest] // 2)
    return tuple(sizes)


def _label(place: Any, dim: str, labels: Array) -> None:
    if labels.dtype.kind in "OU":
        place.create_variable(dim, (dim,), h5py.string_dtype())[...] = labels.astype(object)
    else:
        place.create_variable(dim, (dim,), labels.dtype)[...] = labels
