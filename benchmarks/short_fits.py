"""Whole fits with ``compile="auto"`` beside eager ones: does the choice cost more than it gives in a short run?

Convention of this module: each fit has a process of its own with an empty folder for compiled code, the two kinds take
turns, and what is timed is the call of ``fit``. With arguments, ``CASE STEPS MODE DEVICE``, the module makes one fit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

import torch

from benchmarks.interleaved import Rounds
from benchmarks.tasks import CASES, PUBLISHED, SMALL_VAE

__all__ = ["FITTED", "STEPS", "Fits", "measure"]

FITTED = (PUBLISHED[0], SMALL_VAE)
STEPS = (20, 200, 1000)
ROUNDS = 3

Fits = dict[str, Rounds]
"""For each case and number of steps the ratio of ``auto`` to ``off`` in each round."""


def measure(device: str) -> Fits:
    """The ratios of all cases."""
    return {case: {str(steps): _ratios(case, steps, device) for steps in STEPS} for case in FITTED}


def _ratios(case: str, steps: int, device: str) -> list[float]:
    print(f"fitting {case}, {steps} steps ...", flush=True)
    return [_seconds(case, steps, "auto", device) / _seconds(case, steps, "off", device) for _ in range(ROUNDS)]


def _seconds(case: str, steps: int, mode: str, device: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.short_fits", case, str(steps), mode, device]
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Makes one fit and prints its seconds."""
    case, steps, mode, device = sys.argv[1:]
    warnings.simplefilter("ignore")
    import ppl_genmodels as ppl

    task = CASES[case]()
    data, program = torch.cat([batch[0] for batch in task.batches]), task.program()
    start = time.perf_counter()
    options: dict[str, Any] = {"compile": mode, "accelerator": device, "progress": False}
    ppl.fit(program, data, steps=int(steps), batch_size=task.rows, **options)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
