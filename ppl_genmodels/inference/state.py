"""State on disk: tensors in safetensors, everything else in JSON; nothing that is loaded runs code.

Convention of this module: a state is a tree of dicts, lists and tuples over tensors and JSON values. A folder of
state appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ppl_genmodels.errors import CheckpointError, RunFolderError

__all__ = [
    "module_device",
    "placed",
    "placing",
    "read_json",
    "read_state",
    "read_tensors",
    "write_json",
    "write_state",
    "write_tensors",
    "write_text",
]

TENSORS, TREE = "tensors.safetensors", "state.json"


def write_state(folder: Path, state: Any) -> None:
    """Writes a state as a folder of its own, atomically.

    Args:
        folder: Where it shall be; replaced when it is there.
        state: The tree.

    Raises:
        RunFolderError: When it cannot be written; nothing of it is left behind.
    """
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, tensors)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(tensors, partial / TENSORS)
        record = {"format": 1, "sha256": _digest(partial / TENSORS), "tree": tree}
        (partial / TREE).write_text(json.dumps(record))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunFolderError(
            f"could not write {folder}: {error}. Remedy: free space on that disk, or choose another folder; what "
            f"was written before is untouched."
        ) from error


def read_state(folder: Path) -> Any:
    """Reads what :func:`write_state` wrote.

    Raises:
        CheckpointError: When a file is missing, cut short, or not what was written.
    """
    try:
        record = json.loads((folder / TREE).read_text())
        if record["sha256"] != _digest(folder / TENSORS):
            raise ValueError(f"{TENSORS} is not what was written (cut short or changed)")
        return _decode(record["tree"], load_file(folder / TENSORS))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} is damaged: {error}. Remedy: delete it; an earlier checkpoint is used when there is one."
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes named tensors to a safetensors file, atomically.

    Raises:
        RunFolderError: When it cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    _replace(path, lambda partial: save_file(contiguous, partial))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        CheckpointError: When it is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. Remedy: save the run again, or restore the file."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, atomically.

    Raises:
        RunFolderError: When it cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, default=str))


def write_text(path: Path, text: str) -> None:
    """Writes text, atomically.

    Raises:
        RunFolderError: When it cannot be written.
    """
    _replace(path, lambda partial: partial.write_text(text))


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        CheckpointError: When the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. Remedy: check that {path.parent} is the folder of a run."
        ) from error


def _replace(path: Path, write: Any) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise RunFolderError(
            f"could not write {path}: {error}. Remedy: free space on that disk, or choose another folder; what was "
            f"written before is untouched."
        ) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, Mapping):
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"a state cannot hold a {type(value).__name__} ({value!r}). Remedy: return tensors, numbers, strings, lists "
        f"and dicts from state_dict()."
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
    items = [_decode(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)


def module_device(module: torch.nn.Module) -> torch.device:
    """The device of a module's first parameter or buffer; the CPU when it has none.

    Example:
        >>> module_device(torch.nn.Linear(1, 1))
        device(type='cpu')
    """
    return next((tensor.device for tensor in _tensors(module)), torch.device("cpu"))


def placed(
    inputs: tuple[tuple[Tensor, ...], dict[str, Tensor]], module: torch.nn.Module
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Positional and keyword arguments on a module's device, floating-point ones in its precision.

    Example:
        >>> placed(((torch.ones(2), torch.arange(2)), {}), torch.nn.Linear(1, 1).double())
        ((tensor([1., 1.], dtype=torch.float64), tensor([0, 1])), {})
    """
    return placing(module)(inputs)


def placing(module: torch.nn.Module) -> Callable[[tuple[tuple[Any, ...], dict[str, Any]]], Any]:
    """:func:`placed` for a module that stays where it is, without looking for its device each time."""
    device = module_device(module)
    floating = (tensor.dtype for tensor in _tensors(module) if tensor.is_floating_point())
    dtype = next(floating, torch.get_default_dtype())

    def put(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        ahead = device.type == "cuda" and value.device.type == "cpu"  # the other way the host would not wait
        return value.to(device, dtype if value.is_floating_point() else value.dtype, non_blocking=ahead)

    def place(inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = inputs
        return tuple(map(put, args)), {name: put(value) for name, value in kwargs.items()}

    return place


def _tensors(module: torch.nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
