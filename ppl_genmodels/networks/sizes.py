"""Checks of the sizes that networks and programs are built with.

Convention of this module: a size is a positive integer; what passes is returned as plain Python
integers, so that options can be written as JSON.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

from ppl_genmodels.errors import OptionError

__all__ = ["check_event_shape", "check_size", "check_sizes"]


def check_size(owner: str, name: str, value: object) -> int:
    """The value as an integer, when it is one and positive.

    Args:
        owner: What is being built, for the message.
        name: Name of the argument, for the message.
        value: What was given.

    Raises:
        OptionError: When it is no positive integer.

    Example:
        >>> check_size("VAE", "latent_dim", 8)
        8
    """
    try:
        size = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        size = 0
    if size < 1:
        raise OptionError(f"{owner}: {name}={value!r}, expected a positive integer. Remedy: set {name} to 1 or more.")
    return size


def check_sizes(owner: str, name: str, values: object, length: int | None = None) -> tuple[int, ...]:
    """The values as a tuple of integers, when all are positive.

    Args:
        owner: What is being built, for the message.
        name: Name of the argument, for the message.
        values: What was given.
        length: How many there must be; any number by default.

    Raises:
        OptionError: When it is no sequence of positive integers, or not of that length.

    Example:
        >>> check_sizes("VAE", "hidden", [200, 100])
        (200, 100)
    """
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise OptionError(
            f"{owner}: {name}={values!r}, expected a sequence of positive integers. Remedy: write {name}=({values},)."
        )
    sizes = tuple(check_size(owner, f"{name}[{i}]", value) for i, value in enumerate(values))
    if length is not None and len(sizes) != length:
        raise OptionError(
            f"{owner}: {name}={sizes} has {len(sizes)} entries, expected {length}. "
            f"Remedy: give {name} {length} positive integers."
        )
    return sizes


def check_event_shape(owner: str, event_shape: object) -> tuple[int, ...]:
    """The shape of a datum as a tuple of integers, when it is that of a vector or of an image.

    Args:
        owner: What is being built, for the message.
        event_shape: (features,), or (channels, height, width).

    Raises:
        OptionError: When it is neither.

    Example:
        >>> check_event_shape("GAN", [1, 28, 28])
        (1, 28, 28)
    """
    shape = check_sizes(owner, "event_shape", event_shape)
    if len(shape) not in (1, 3):
        raise OptionError(
            f"{owner}: event_shape={shape}, expected (features,) or (channels, height, width). Remedy: reshape the "
            f"data."
        )
    return shape
