"""Memory for inference on many rows: what a process holds at its peak, beside what it held before.

Convention of this module: each number of rows is measured in a process of its own, on a memory map that is written
first. What counts is anonymous memory, which only the process can free; pages of the mapped file, which the system
takes back when it needs them, stand apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

__all__ = ["measure"]

COLUMNS, HIDDEN, LATENT = 4, 8, 2
PIECE = 2**18
EVERY = 0.02
"""Seconds between two looks at the memory."""


def measure(rows: int, draws: int, folder: Path) -> dict[str, float]:
    """Infers on so many rows in this process.

    Returns:
        Seconds of infer, and megabytes: anonymous memory before, at its peak, and at the peak of log_evidence; mapped
        files at the end; the file of draws.
    """
    import torch

    import ppl_genmodels as ppl
    from ppl_genmodels.models import VAE

    torch.set_num_threads(1)
    data = np.load(_written(rows, folder), mmap_mode="r")
    program = VAE(COLUMNS, LATENT, (HIDDEN,), likelihood="gaussian")
    fitted = ppl.fit(program, np.array(data[:512]), steps=2, progress=False)
    fitted.infer(data[:256], draws, seed=0, out=folder / "warm.nc").close()
    before, start = _status("RssAnon"), time.perf_counter()
    with _Peak() as peak:
        fitted.infer(data, draws, seed=0, out=folder / "posterior.nc").close()
    seconds = time.perf_counter() - start
    with _Peak() as evidence_peak:
        fitted.log_evidence(data, draws)
    size = (folder / "posterior.nc").stat().st_size / 2**20
    return {
        "seconds": seconds,
        "before": before,
        "peak": peak.highest,
        "evidence": evidence_peak.highest,
        "mapped": _status("RssFile"),
        "file": size,
    }


def _written(rows: int, folder: Path) -> Path:
    path = folder / "data.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, COLUMNS))
    random = np.random.default_rng(0)
    for start in range(0, rows, PIECE):
        array[start : start + PIECE] = random.normal(size=array[start : start + PIECE].shape)
    array.flush()
    return path


class _Peak:
    """The highest anonymous memory while the context lasts, in megabytes."""

    def __enter__(self) -> _Peak:
        self.highest, self._ended = _status("RssAnon"), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self.highest = max(self.highest, _status("RssAnon"))


def _status(field: str) -> float:
    """One line of the system's account of this process, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("Memory is read from /proc/self/status, which Linux has.")


def main() -> None:
    """Measures each number of rows in a process of its own, and prints."""
    parser = argparse.ArgumentParser(description="Peak memory of infer(..., out=...) against rows.")
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(int(options.rows[0]), options.draws, Path(folder))
        print("  ".join(f"{value:9.1f}" for value in found.values()), flush=True)
        return
    print(f"VAE {COLUMNS}-{HIDDEN}-{LATENT}, {options.draws} draws, one thread. Seconds of infer; megabytes of memory")
    print("before, at infer's peak and at log_evidence's; of mapped files at the end; and of the file of draws.")
    print("       rows    seconds     before       peak   evidence     mapped       file")
    for rows in options.rows:
        print(f"{int(rows):11,}", end="  ", flush=True)
        arguments = ["--alone", "--rows", str(rows), "--draws", str(options.draws)]
        subprocess.run([sys.executable, "-m", "benchmarks.memory", *arguments], check=True)


if __name__ == "__main__":
    main()
