"""Memory that the processes of one machine share, for what is too large to go through sockets at each step.

Convention of this module: the memory has no name once all processes see it, so that nothing is left of it when they
end, however they end.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ppl_genmodels.inference.processes import Processes

__all__ = ["shared_rows"]

FOLDER = Path("/dev/shm")
"""Where Linux keeps files in memory."""


def shared_rows(columns: int, dtype: torch.dtype, processes: Processes) -> Tensor | None:
    """A tensor with a row for each process, which all of them see.

    Args:
        columns: Numbers in a row.
        dtype: Their dtype.
        processes: Those that share it.

    Returns:
        Shape (processes, columns); None where processes run on GPUs or on several machines, or there is no room.
    """
    if processes.device.type != "cpu":
        return None
    count = processes.count * columns
    path = processes.first(lambda: _reserved(count * dtype.itemsize))
    if path is None:
        return None
    seen = _mapped(path, count, dtype)
    missing = processes.any(seen is None)[0]
    if processes.is_first:
        path.unlink()
    return None if missing or seen is None else seen.view(processes.count, columns)


def _reserved(size: int) -> Path | None:
    """A new file with room for so many bytes, or None where that cannot be had."""
    path = FOLDER / f"ppl_genmodels-{secrets.token_hex(16)}"
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except OSError:
        return None
    try:
        os.posix_fallocate(handle, 0, size)  # a file that only looks long enough would end the process when it is full
    except (OSError, AttributeError):
        with suppress(OSError):
            path.unlink()
        return None
    finally:
        os.close(handle)
    return path


def _mapped(path: Path, count: int, dtype: torch.dtype) -> Tensor | None:
    if not path.exists():  # on another machine
        return None
    return torch.from_file(str(path), shared=True, size=count, dtype=dtype)
