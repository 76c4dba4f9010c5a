"""Data as images: which arrays are images, and how several of them are laid out as one picture.

Convention of this module: images have the shape (count, height, width) when gray and
(count, height, width, 3) when in colour, channels last as matplotlib has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_genmodels.errors import DataError

__all__ = ["as_images", "event_shape", "gray_limits", "mosaic", "show_images"]

SMALLEST_SIDE = 6
"""Flat vectors are taken for square images from this side on; shorter ones are features."""

GAP = (0.72, 0.80, 0.90)
"""Colour between images and of missing pixels."""

Values = NDArray[np.float64]


def as_images(array: ArrayLike, shape: Sequence[int]) -> Values:
    r"""The rows as images of that shape.

    Args:
        array: Shape (count, \*event).
        shape: (height, width) or (channels, height, width) of each row.

    Raises:
        DataError: When ``shape`` does not fit the rows.

    Example:
        >>> as_images(np.zeros((5, 64)), (8, 8)).shape
        (5, 8, 8)
        >>> as_images(np.zeros((5, 3, 16, 16)), (3, 16, 16)).shape
        (5, 16, 16, 3)
    """
    values = np.asarray(array, dtype=np.float64)
    sizes = int(np.prod(shape)), int(np.prod(values.shape[1:]))
    if sizes[0] != sizes[1] or len(shape) not in (2, 3):
        raise DataError(
            f"image_shape {tuple(shape)} has {sizes[0]} values, the rows have {sizes[1]}. "
            f"Give (height, width) or (channels, height, width)."
        )
    images = values.reshape(-1, *shape)
    if images.ndim == 4:
        images = np.moveaxis(images, 1, -1)
        images = images[..., 0] if images.shape[-1] == 1 else images
    return images


def event_shape(array: ArrayLike) -> tuple[int, ...] | None:
    r"""The shape of each row as an image, or None when rows of that shape are no images.

    A row is an image when its shape is (height, width), or (channels, height, width) with one or
    three channels, or a flat square with sides of 6 or more.

    Args:
        array: Shape (count, \*event).

    Example:
        >>> event_shape(np.zeros((5, 784)))
        (28, 28)
    """
    event = np.shape(array)[1:]
    if len(event) == 3 and event[0] in (1, 3):
        return event
    if len(event) == 2 and min(event) >= SMALLEST_SIDE:
        return event
    side = round(float(np.sqrt(event[0]))) if len(event) == 1 else 0
    return (side, side) if side >= SMALLEST_SIDE and side * side == event[0] else None


def mosaic(images: Values, columns: int) -> Values:
    """The images in rows of ``columns``, one pixel apart; gaps and missing pixels are NaN.

    Example:
        >>> mosaic(np.zeros((5, 8, 8)), columns=3).shape
        (17, 26)
    """
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    shape = (rows * (height + 1) - 1, columns * (width + 1) - 1, *images.shape[3:])
    sheet = np.full(shape, np.nan)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return sheet


def show_images(ax: Axes, images: Values, columns: int, limits: tuple[float, float]) -> None:
    """Draws a mosaic on ``ax``, black at the first of ``limits`` and white at the second.

    Gaps and missing pixels are blue, so that white images keep their edges.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().subplots()
        >>> show_images(ax, np.ones((4, 8, 8)), columns=2, limits=(0.0, 1.0))
        >>> ax.images[0].get_array().shape
        (17, 17, 4)
    """
    low, high = limits
    sheet = np.clip((mosaic(images, columns) - low) / max(high - low, 1e-12), 0, 1)
    colour = sheet if sheet.ndim == 3 else np.repeat(sheet[..., None], 3, -1)
    painted = np.where(np.isfinite(colour).all(-1, keepdims=True), colour, GAP)
    opacity = np.ones((*painted.shape[:2], 1))
    used = len(images) % columns
    if used:
        opacity[-images.shape[1] :, used * (images.shape[2] + 1) - 1 :] = 0
    ax.imshow(np.concatenate([painted, opacity], -1), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def gray_limits(array: ArrayLike) -> tuple[float, float]:
    """Values shown black and white: the range of nearly all finite values.

    Example:
        >>> gray_limits([0.0, 16.0, np.nan])
        (0.016, 15.984)
    """
    values = np.asarray(array, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = np.quantile(finite, [0.001, 0.999])
    return float(low), float(high)
