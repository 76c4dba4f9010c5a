"""Checks of what a program is called with.

Convention of this module: data have rows first. Shapes and dtypes are checked on every call, since
that costs no look at the values; values are checked only while Pyro's validation is on, as a
distribution checks its own, because a traced step cannot read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.errors import DataError, ProgramError, UnknownNameError

__all__ = ["check_dtype", "check_index", "check_rows", "data_array", "data_rows", "missing_data"]


def check_rows(
    program: nn.Module,
    name: str,
    value: object,
    event_shape: Sequence[int],
    rows: int | None = None,
) -> int:
    """The number of rows of an argument, when it has the shape ``(rows, *event_shape)``.

    Args:
        program: The program called, for the message.
        name: Name of the argument.
        value: What was given.
        event_shape: Shape of one row.
        rows: How many rows there must be; any number by default.

    Raises:
        DataError: When it is no tensor, or of another shape.

    Example:
        >>> check_rows(nn.Identity(), "x", torch.zeros(5, 3), (3,))
        5
    """
    owner = type(program).__name__
    if not isinstance(value, Tensor):
        raise DataError(
            f"{owner}: '{name}' is of type {type(value).__name__}, expected a tensor. Remedy: torch.as_tensor({name})."
        )
    event = torch.Size(event_shape)
    fits = value.dim() == 1 + len(event) and value.shape[1:] == event
    if not fits or rows not in (None, len(value)) or len(value) == 0:
        expected = str((rows or "rows", *event)).replace("'", "")
        raise DataError(
            f"{owner}: '{name}' has shape {tuple(value.shape)}, expected {expected}. "
            f"Remedy: {_shape_remedy(owner, name, value.shape, event)}."
        )
    return len(value)


def _shape_remedy(owner: str, name: str, shape: torch.Size, event: torch.Size) -> str:
    if shape[:1] == (0,):
        return "give at least one row"
    if shape == event:
        return f"{name}.unsqueeze(0) for one row"
    if shape[1:].numel() == event.numel() and shape[1:] != event:
        return f"{name}.reshape({', '.join(map(str, (-1, *event)))})"
    if shape[1:] == event:
        return "give every argument the same number of rows"
    return f"give rows of shape {tuple(event)}, or build {owner} for these data"


def check_dtype(program: nn.Module, name: str, value: Tensor, like: Tensor) -> None:
    """Checks that an argument has the dtype of a program's own tensors.

    Args:
        program: The program called, for the message.
        name: Name of the argument.
        value: What was given.
        like: A parameter or buffer of the program.

    Raises:
        DataError: When it has another dtype.

    Example:
        >>> check_dtype(nn.Identity(), "x", torch.zeros(5), like=torch.zeros(()))
    """
    if value.dtype != like.dtype:
        raise DataError(
            f"{type(program).__name__}: '{name}' has dtype {value.dtype}, expected the program's "
            f"own, {like.dtype}. Remedy: {name}.to({like.dtype}), or for floating dtypes "
            f"program.to({name}.dtype)."
        )


def check_index(program: nn.Module, name: str, value: Tensor, size: int, option: str) -> None:
    """Checks that an argument holds integers from 0 to ``size - 1``.

    Args:
        program: The program called, for the message.
        name: Name of the argument.
        value: What was given.
        size: How many there are to choose from.
        option: The program's option that set ``size``, for the message.

    Raises:
        DataError: When the dtype is no integer's, or a value lies outside.

    Example:
        >>> check_index(nn.Identity(), "group", torch.tensor([0, 2, 1]), 3, "num_groups")
    """
    owner = type(program).__name__
    if value.dtype not in (torch.int64, torch.int32):
        raise DataError(
            f"{owner}: '{name}' has dtype {value.dtype}, expected integers (torch.int64). Remedy: {name}.long()."
        )
    if not dist.is_validation_enabled() or value.numel() == 0:
        return
    lowest, highest = value.min().item(), value.max().item()
    if lowest < 0 or highest >= size:
        raise DataError(
            f"{owner}: '{name}' has values from {lowest} to {highest}, expected 0 to {size - 1} "
            f"({option}={size}). Remedy: number them from 0, or build {owner} with "
            f"{option}={int(highest) + 1}."
        )


def data_rows(data: Mapping[str, np.ndarray], name: str, program: str, otherwise: str = "") -> np.ndarray:
    """One array of a data set that is of shape ``(rows, data_dim)``.

    Args:
        data: Arrays by name.
        name: The name wanted.
        program: The program that wants it, for the message.
        otherwise: What else may be done with data of another shape, for the message.

    Raises:
        UnknownNameError: When the data have no array of that name.
        DataError: When it is empty, or of another shape.

    Example:
        >>> data_rows({"x": np.zeros((5, 64))}, "x", "VAE").shape
        (5, 64)
    """
    rows = data_array(data, name, program)
    if rows.ndim != 2:
        raise DataError(
            f"{program}: array '{name}' has shape {rows.shape}, expected (rows, data_dim). Remedy: "
            f"{name}.reshape(len({name}), -1){otherwise}."
        )
    return rows


def missing_data(program: nn.Module, name: str) -> ProgramError:
    """The error of a guide that was called without the data it conditions on.

    Example:
        >>> print(missing_data(nn.Identity(), "x"))
        Identity.guide needs data: 'x' is None, and a posterior is conditioned on it. Remedy:
        guide(x), or model() to sample from the prior.
    """
    return ProgramError(
        f"{type(program).__name__}.guide needs data: '{name}' is None, and a posterior is "
        f"conditioned on it. Remedy: guide({name}), or model() to sample from the prior."
    )


def data_array(data: Mapping[str, np.ndarray], name: str, program: str) -> np.ndarray:
    """One array of a data set, by name, as options are read off it.

    Args:
        data: Arrays by name.
        name: The name wanted.
        program: The program that wants it, for the message.

    Raises:
        UnknownNameError: When the data have no array of that name.
        DataError: When it is empty.

    Example:
        >>> data_array({"x": np.zeros((5, 64))}, "x", "VAE").shape
        (5, 64)
    """
    if name not in data:
        raise UnknownNameError("array", name, data, f"in the data, which {program} reads")
    if data[name].size == 0:
        raise DataError(
            f"{program}: array '{name}' of shape {data[name].shape} is empty. Remedy: give at least one row."
        )
    return data[name]
