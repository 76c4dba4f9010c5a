"""One way in a process of its own: the time of its first step, of a later one, and the memory at its peak.

Convention of this module: run as ``python -m benchmarks.worker CASE WAY DEVICE``, it prints one line of JSON. The
libraries are imported before the clock starts, and that part of torch's compiler which any optimizer of torch imports;
what its first use imports counts. Memory is what the system held for the process, and on a GPU what torch held.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
import warnings
from pathlib import Path

import pyro
import torch
import torch._dynamo

from benchmarks.interleaved import Way
from benchmarks.tasks import CASES
from benchmarks.ways import NEEDED, WAYS, installed

STEPS = 50


def main() -> None:
    """Measures and prints."""
    case, name, device = sys.argv[1:]
    warnings.simplefilter("ignore")
    pyro.enable_validation(False)
    task = CASES[case](device=device)
    found = None
    if installed(name):
        if name in NEEDED:
            importlib.import_module(NEEDED[name])
        before = peak_memory(device)
        start = time.perf_counter()
        way = WAYS[name](task)
        if way is not None:
            found = measured(way, start) | {"memory": peak_memory(device), "memory_before": before}
    print(json.dumps(found))


def measured(way: Way, start: float) -> dict[str, float]:
    """Seconds until the first step is done, and of the median step after some."""
    with way.around():
        way.step()
        first = time.perf_counter() - start
        times = [_timed(way) for _ in range(STEPS)]
    return {"first": first, "step": statistics.median(times[STEPS // 2 :])}


def _timed(way: Way) -> float:
    start = time.perf_counter()
    way.step()
    return time.perf_counter() - start


def peak_memory(device: str) -> float:
    """The most memory held so far, in MB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1e3


if __name__ == "__main__":
    main()
