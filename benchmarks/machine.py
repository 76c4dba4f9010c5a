"""The machine: which cores a run may use, and how the pages name it.

Convention of this module: every library gets the same cores, by pinning the whole process to them before any library is
imported; torch's own count of threads then follows. Nothing here imports torch at the top.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable

__all__ = ["clock", "described", "interleaved", "pin"]

PACKAGES = ("torch", "pyro-ppl", "pixyz", "numpyro", "jax", "zuko", "normflows", "diffusers")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def pin(threads: int) -> None:
    """Pins this process and its children to the last cores that it may use, one for each thread.

    Raises:
        SystemExit: When there are not so many cores.
    """
    os.environ |= dict.fromkeys(THREADS, str(threads))
    if not hasattr(os, "sched_setaffinity"):  # the threads alone must do
        return
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise SystemExit(f"--threads is from 1 to {len(cores)}, the cores of this machine; got {threads}.")
    os.sched_setaffinity(0, cores[-threads:])


def clock(device: str) -> Callable[[], float]:
    """What time is told by: on one core the process's own, which stands still while others have the core.

    Where several cores or a GPU work at once that would count too much or too little, and the wall's clock serves.
    """
    alone = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1
    return time.process_time if alone and device == "cpu" else time.perf_counter


def described(device: str, how: str) -> str:
    """How a part was measured, the machine and the versions in words, for the line under a table.

    Args:
        device: Where the steps were taken.
        how: What was repeated, and by which clock.

    Example:
        >>> described("cpu", "Once").startswith("Once, float32, on ")
        True
    """
    import torch

    where = f"{torch.get_num_threads()} of {os.cpu_count()} cores ({platform.machine()})"
    if device == "cuda":
        where += f" and one {torch.cuda.get_device_name()}"
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return f"{how}, float32, on {where}; {versions}."


def interleaved(device: str, rounds: int) -> str:
    """How a part was measured whose ways take turns in one process."""
    kind = "process's own clock" if clock(device) is time.process_time else "wall's clock"
    return f"Medians over {rounds} rounds with quartiles, by the {kind}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None
