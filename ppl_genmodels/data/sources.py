"""Where data come from: a built-in name, a file, or a folder of images, told apart by the name.

Convention of this module: every array has its rows first; pixels are float32 grey levels from 0 to
1; the array of a .npy or .npz file keeps its dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppl_genmodels.data.files import READERS, Contents
from ppl_genmodels.data.idx import read_idx_folder
from ppl_genmodels.data.pixels import binarize_pixels
from ppl_genmodels.errors import DataError, OptionError, UnknownNameError, nearest

__all__ = ["BUILT_IN", "LoadedData", "load"]

BUILT_IN = ("digits",)
SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class LoadedData:
    """Arrays with the same number of rows, and what is known beside them.

    Attributes:
        name: Where they come from.
        arrays: By the name of the program's argument; a single array is called ``x``.
        labels: One label per row, where there are any; a program does not see them.
        columns: Names of the columns of ``x``, where known.

    Example:
        >>> loaded = LoadedData("two rows", {"x": np.zeros((2, 3))})
        >>> loaded.rows, loaded.data.shape
        (2, (2, 3))
    """

    name: str
    arrays: dict[str, NDArray[Any]]
    labels: NDArray[Any] | None = None
    columns: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows every array has."""
        return len(next(iter(self.arrays.values())))

    @property
    def data(self) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """What a program is called with: ``x`` when it is the only array, otherwise all by name."""
        return self.arrays["x"] if set(self.arrays) == {"x"} else self.arrays


def load(
    source: str | Path,
    split: str = "train",
    *,
    binarize: str = "none",
    seed: int = 0,
    images: bool = False,
) -> LoadedData:
    """Loads data by name.

    - ``digits``: the 8x8 grey digits that come with scikit-learn, split once and for all: 1437 rows
      to train, 360 to test, each class in the same share.
    - ``.npy``: one array, mapped from the disk. ``.npz``: one array per argument of the program.
    - ``.csv``, ``.parquet``: a table of numbers.
    - a folder of IDX files, as MNIST's.

    Args:
        source: A built-in name or a path (``./digits`` for a folder that is named as a built-in).
        split: ``"train"`` or ``"test"``; chooses nothing in a file, which is one split.
        binarize: ``"none"``, or how pixels become binary: ``"threshold"`` or ``"sample"``. For
            digits and IDX folders only.
        seed: Of the drawn binarisation.
        images: Whether pixels have the shape (rows, 1, height, width), as convolutions take them,
            not (rows, height * width). For digits and IDX folders only.

    Raises:
        UnknownNameError: When the name is no path and not built in.
        DataError: When the file is missing, empty, damaged, or not what its name says.
        OptionError: When an option has a value that it cannot have.

    Example:
        >>> digits = load("digits")
        >>> digits.data.shape, str(digits.data.dtype), float(digits.data.max())
        ((1437, 64), 'float32', 1.0)
    """
    if split not in SPLITS:
        raise OptionError(f"split={split!r} is unknown. Remedy: use one of {', '.join(SPLITS)}.")
    if str(source) in BUILT_IN or Path(source).is_dir():
        grey, labels = _digits(split) if str(source) in BUILT_IN else _idx(Path(source), split)
        pixels = binarize_pixels(grey, binarize, seed)
        x = pixels[:, None] if images else pixels.reshape(len(pixels), -1)
        return _checked(source, ({"x": x}, labels, ()))
    if binarize != "none" or images:
        raise OptionError(f"'{source}': binarize and images serve digits and IDX folders. Remedy: leave them out.")
    return _checked(source, _file(Path(source)))


def _digits(split: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Pixels, shape (rows, 8, 8), and the digits they show."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)
    train, test, train_labels, test_labels = train_test_split(
        pixels, digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    return (train, train_labels) if split == "train" else (test, test_labels)


def _idx(folder: Path, split: str) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
    images, labels = read_idx_folder(folder, split)
    pixels = np.divide(images, 255, dtype=np.float32)
    return pixels, None if labels is None else labels.astype(np.int64)


def _file(path: Path) -> Contents:
    reader = READERS.get(path.suffix.lower())
    if not path.exists():
        raise _missing(path)
    if reader is None:
        raise DataError(
            f"'{path}' has the suffix '{path.suffix}', expected one of {', '.join(READERS)}. "
            f"Remedy: save it as one of these."
        )
    return reader(path)


def _missing(path: Path) -> DataError | UnknownNameError:
    if path.parent == Path() and not path.suffix:
        where = "(nor a file or folder of that name)"
        return UnknownNameError("data set", str(path), BUILT_IN, where)
    there = [near.name for near in path.parent.iterdir()] if path.parent.is_dir() else []
    close = [repr(str(path.parent / name)) for name in nearest(path.name, there)]
    hint = f" Did you mean {', '.join(close)}?" if close else ""
    return DataError(f"no file or folder '{path}'.{hint} Remedy: check the path.")


def _checked(source: str | Path, contents: Contents) -> LoadedData:
    arrays, labels, columns = contents
    counts = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        counts["labels"] = labels.size
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise DataError(
            f"'{source}' has unequal numbers of rows: {listed}. Remedy: give every array one row per datum."
        )
    if not arrays or any(array.size == 0 for array in arrays.values()):
        raise DataError(f"'{source}' holds no data. Remedy: give at least one row.")
    return LoadedData(str(source), arrays, labels, columns)
