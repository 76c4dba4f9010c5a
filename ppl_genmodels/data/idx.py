"""Folders of MNIST-style IDX files, compressed by gzip or not.

Convention of this module: a file holds unsigned bytes, big-endian sizes first; the training split's
files begin with ``train``, the test split's with ``t10k``.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ppl_genmodels.errors import DataError

__all__ = ["read_idx", "read_idx_folder"]

PREFIXES = {"train": "train", "test": "t10k"}
GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 8


def read_idx_folder(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The images of a split, shape (rows, height, width), 0 to 255, and its labels, shape (rows,).

    Args:
        folder: Holds ``train-images-idx3-ubyte`` or ``t10k-images-idx3-ubyte``, and the labels'
            file where there are labels; each may end in ``.gz``.
        split: ``"train"`` or ``"test"``.

    Raises:
        DataError: When the split has no images' file, or labels do not match the images.
    """
    images_path = _find(folder, f"{PREFIXES[split]}-images", 3)
    labels_path = _find(folder, f"{PREFIXES[split]}-labels", 1)
    if images_path is None:
        found = sorted(path.name for path in folder.iterdir())
        listed = ", ".join(found[:6] + ["..."] * (len(found) > 6)) or "nothing"
        raise DataError(
            f"'{folder}' holds no IDX images of the {split} split: found {listed}. Remedy: put "
            f"{PREFIXES[split]}-images-idx3-ubyte (or .gz) there, or give the path of a file."
        )
    images = read_idx(images_path, dims=3)
    labels = None if labels_path is None else read_idx(labels_path, dims=1)
    if labels is not None and len(labels) != len(images):
        raise DataError(
            f"'{labels_path}' has {len(labels)} labels and '{images_path.name}' {len(images)} "
            f"images: unequal numbers of rows. Remedy: fetch both files again, from one data set."
        )
    return images, labels


def read_idx(path: Path, dims: int) -> NDArray[np.uint8]:
    """The array of one IDX file of unsigned bytes.

    Args:
        path: The file, compressed by gzip or not.
        dims: How many dims it must have.

    Raises:
        DataError: When the file is no such IDX file, or is cut short.

    References:
        LeCun, Cortes and Burges, The MNIST database of handwritten digits, section on file formats.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "labels")
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        >>> read_idx(path, dims=1)
        array([7, 8, 9], dtype=uint8)
    """
    content = _content(path)
    if content[:4] != bytes([0, 0, UNSIGNED_BYTE, dims]):
        raise DataError(
            f"'{path}' is not an IDX file of unsigned bytes with {dims} dims: it begins with "
            f"0x{content[:4].hex()}, expected 0x{bytes([0, 0, UNSIGNED_BYTE, dims]).hex()}. "
            f"Remedy: fetch the file again, or give the right one."
        )
    start = 4 + 4 * dims
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"'{path}' holds {len(content)} bytes where its header announces {expected}: it is cut "
            f"short or damaged. Remedy: fetch the file again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(folder: Path, stem: str, dims: int) -> Path | None:
    """The first of the names in use for one file: with a dash or a dot, plain before compressed."""
    names = [f"{stem}{mark}idx{dims}-ubyte{end}" for end in ("", ".gz") for mark in "-."]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _content(path: Path) -> bytes:
    """The file's bytes, decompressed if its first bytes say so, whatever its name says."""
    raw = path.read_bytes()
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"'{path}' is a gzip file cut short or damaged ({error}). Remedy: fetch the file again."
        ) from error
