"""Inference on new data: runs replayed from graphs beside eager ones.

Convention of this module: each method of a fitted program is called in turns, traced and eager, on the same data and
seed; what is kept of a round is the ratio of the two times. Tracing is part of the traced time, loading torch's
compiler, once in a process, is not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.evidence import log_evidence
from ppl_genmodels.inference.posterior import sample_posterior
from ppl_genmodels.inference.predictive import reconstruct
from ppl_genmodels.models import VAE
from ppl_genmodels.program import Program, as_program

__all__ = ["SIZES", "measure"]

SIZES = {
    "64-500-8, 10,000 rows, 100 draws": (64, 500, 8, 10_000, 100),
    "4-8-2, 100,000 rows, 4 draws": (4, 8, 2, 100_000, 4),
    "4-8-2, 10,000 rows, 4 draws": (4, 8, 2, 10_000, 4),
}
"""Data dim, hidden units, latent dim, rows, draws."""

METHODS: dict[str, Callable[[Program, Rows, int, Mode], object]] = {
    "infer": lambda program, rows, draws, mode: sample_posterior(program, rows, draws, compile=mode),
    "infer, predictive": lambda program, rows, draws, mode: sample_posterior(
        program, rows, draws, predictive=True, compile=mode
    ),
    "log_evidence": lambda program, rows, draws, mode: log_evidence(program, rows, draws, compile=mode),
    "reconstruct": lambda program, rows, draws, mode: reconstruct(program, rows, draws, compile=mode),
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """For each size and method the median ratio of traced to eager time."""
    found = {}
    for name, (data_dim, hidden, latent_dim, count, draws) in SIZES.items():
        torch.manual_seed(0)
        program = as_program(VAE(data_dim, latent_dim, (hidden,)).eval())
        rows = Rows.of(torch.rand(count, data_dim).round())
        some = rows.subset(range(64))
        found[name] = {}
        for method, call in METHODS.items():
            call(program, some, draws, "trace")  # loads what tracing needs
            ratios = [_ratio(call, program, rows, draws, bool(number % 2)) for number in range(rounds)]
            found[name][method] = statistics.median(ratios)
    return found


def _ratio(call: Callable[..., object], program: Program, rows: Rows, draws: int, eager_first: bool) -> float:
    seconds: dict[str, float] = {}
    for mode in ("off", "auto") if eager_first else ("auto", "off"):
        start = time.perf_counter()
        call(program, rows, draws, mode)
        seconds[mode] = time.perf_counter() - start
    return seconds["auto"] / seconds["off"]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Inference on new data, traced over eager, in one run.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size, found in measure(options.rounds).items():
        print(f"\nVAE {size}: time as a ratio to eager")
        for method, ratio in found.items():
            print(f"  {method:20s} {ratio:5.2f}")


if __name__ == "__main__":
    main()
