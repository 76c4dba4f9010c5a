"""Files of arrays and of tables: .npy, .npz, .csv, .parquet.

Convention of this module: rows come first; nothing is ever unpickled; a table's numeric columns
become one float32 array ``x`` of shape (rows, columns), and its column ``label`` is set aside.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ppl_genmodels.errors import DataError

__all__ = ["READERS", "Contents"]

Contents = tuple[dict[str, NDArray[Any]], NDArray[Any] | None, tuple[str, ...]]
"""What a file holds: its arrays by name, its labels if any, and its columns' names if any."""

LABELS = ("labels", "label")
MAGIC = {".npy": b"\x93NUMPY", ".npz": b"PK", ".parquet": b"PAR1"}
WRITERS = {".npy": "numpy.save", ".npz": "numpy.savez", ".parquet": "DataFrame.to_parquet"}
KINDS = {
    b"\x93NUMPY": "a .npy file",
    b"PK": "a zip or .npz file",
    b"PAR1": "a .parquet file",
    b"\x80": "a pickle, which is never loaded because it can run code",
}


def read_npy(path: Path) -> Contents:
    """One array ``x``, mapped from the disk, so that it can be larger than memory."""
    _check_magic(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _unreadable(path, error) from error
    return {"x": _numeric(path, "the array", array)}, None, ()


def read_npz(path: Path) -> Contents:
    """Several arrays by name; the one named ``labels`` is kept aside."""
    _check_magic(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error
    labels = next((arrays.pop(name) for name in LABELS if name in arrays), None)
    for name, array in arrays.items():
        _numeric(path, f"array '{name}'", array)
    return arrays, labels, ()


def read_csv(path: Path) -> Contents:
    """A table separated by commas whose first line names the columns."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, index_col=False)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"'{path}' is empty. Remedy: give it a header line and rows.") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise _unreadable(path, error) from error
    _check_header(path, list(frame.columns))
    return _table(path, frame)


def read_parquet(path: Path) -> Contents:
    """A table in the Parquet format, which needs pyarrow."""
    _check_magic(path)
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        raise DataError(f"'{path}' needs pyarrow to be read. Remedy: pip install 'ppl-genmodels[parquet]'.") from error
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    return _table(path, frame)


READERS: dict[str, Callable[[Path], Contents]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
"""The reader of each suffix."""


def _table(path: Path, frame: pd.DataFrame) -> Contents:
    column = next((frame.pop(name) for name in LABELS if name in frame), None)
    other = [repr(str(name)) for name in frame.select_dtypes(exclude=["number", "bool"]).columns]
    if other and len(frame) > 0:
        raise DataError(
            f"'{path}' has columns that are not numbers: {', '.join(other)}. Remedy: drop them or "
            f"code them as numbers (a column 'label' is kept aside and may hold text)."
        )
    with np.errstate(over="ignore"):
        x = frame.to_numpy(dtype=np.float32, na_value=np.nan)
    return {"x": x}, _labels(column), tuple(map(str, frame.columns))


def _labels(column: pd.Series[Any] | None) -> NDArray[Any] | None:
    if column is None or pd.api.types.is_numeric_dtype(column):
        return None if column is None else column.to_numpy()
    return column.astype(str).to_numpy(dtype=np.str_)


def _check_header(path: Path, names: list[Any]) -> None:
    unnamed = [i + 1 for i, name in enumerate(names) if str(name).startswith("Unnamed: ")]
    if unnamed:
        raise DataError(
            f"'{path}': column {unnamed[0]} has no name in the first line. Remedy: name it, or "
            f"leave it out (an index that pandas wrote: DataFrame.to_csv(..., index=False))."
        )
    if all(_is_number(name) for name in names) and names != [str(i) for i in range(len(names))]:
        raise DataError(
            f"'{path}': the first line holds numbers ({', '.join(names[:3])}, ...), expected the "
            f"columns' names. Remedy: write a header line."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numeric(path: Path, what: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"'{path}': {what} has dtype {array.dtype}, expected numbers. Remedy: convert it "
            f"before saving, as in array.astype('float32')."
        )
    if array.ndim == 0:
        raise DataError(f"'{path}': {what} is a single number. Remedy: give it a dim of rows.")
    return array


def _check_magic(path: Path) -> None:
    """Refuses a file whose first bytes are not those of its suffix."""
    with path.open("rb") as file:
        begin = file.read(6)
    if begin.startswith(MAGIC[path.suffix.lower()]):
        return
    kind = next((KINDS[magic] for magic in KINDS if begin.startswith(magic)), f"0x{begin.hex()}...")
    found = f"holds {kind}" if begin else "is empty"
    raise DataError(
        f"'{path}' is named {path.suffix} and {found}. Remedy: rename the file, or write it with "
        f"{WRITERS[path.suffix.lower()]}."
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    """The error of a file that begins well and does not go on so."""
    first = str(error).strip().splitlines()[0].rstrip(".")
    if "Object arrays" in first or "Python objects" in first:
        return DataError(
            f"'{path}' holds Python objects (dtype object), which are never loaded because they "
            f"can run code. Remedy: save an array of numbers."
        )
    remedy = "save or fetch the file again"
    return DataError(f"'{path}' cannot be read as {path.suffix}: {first}. Remedy: {remedy}.")
