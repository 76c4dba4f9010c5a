"""The share of a training step that two processes spend with each other.

Convention of this module: both processes, of one thread each, take steps on their parts of a batch in turns with the
others and in turns by themselves; the share is what the first cost more, as the median over rounds.

``python -m benchmarks.communication`` starts the second process itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric

from benchmarks.interleaved import Ratio, summary
from ppl_genmodels import as_program
from ppl_genmodels.inference.compiled import CompiledGradient
from ppl_genmodels.inference.devices import launch, make_fabric
from ppl_genmodels.inference.engine import Inputs
from ppl_genmodels.inference.gradient import Gradient
from ppl_genmodels.inference.processes import Processes
from ppl_genmodels.models import VAE
from ppl_genmodels.objectives import elbo

__all__ = ["SIZES", "measure"]

SIZES = {
    "784-2000-30, batch 128": (784, 2000, 30, 128),
    "784-2000-30, batch 256": (784, 2000, 30, 256),
    "784-400-10, batch 128": (784, 400, 10, 128),
}
"""Of a VAE: pixels, hidden units, latents, and the rows of a batch, which two processes share."""
CALLS = 5
"""Steps in a turn."""


def step_of(fabric: Fabric, size: tuple[int, int, int, int], traced: bool) -> Callable[[], object]:
    """A training step of one process as ``fit`` makes it, on its part of the batch."""
    pixels, hidden, latents, batch = size
    program, x = as_program(VAE(pixels, latents, (hidden,))), torch.rand(batch // 2, pixels).round()
    program.probe(x)
    optimizer = torch.optim.Adam(program.parameters(), fused=True)
    compiled = CompiledGradient(elbo(), program) if traced else None
    gradient = Gradient(program, elbo(), optimizer, fabric, 1, 60_000, compiled)
    processes = Processes(fabric)

    def step() -> None:
        gradient(Inputs((x,), {}), 0)
        gradient.optimizer.step()
        processes.any(False, False)  # whether to stop, or to write

    return step


def shares(together: Callable[[], object], alone: Callable[[], object], fabric: Fabric, rounds: int) -> Ratio:
    """The share of the time of a step together by which it exceeds a step alone."""
    found = []
    for number in range(rounds + 1):
        seconds = []
        for step in (together, alone):
            fabric.barrier()
            start = time.perf_counter()
            for _ in range(CALLS):
                step()
            seconds.append(time.perf_counter() - start)
        if number > 0:  # the first round warms up
            found.append(1.0 - seconds[1] / seconds[0])
    return summary(found)


def measure(fabric: Fabric, rounds: int) -> dict[str, dict[str, Ratio]]:
    """For each size, and for traced and eager steps, the share of a step that is communication."""
    single = make_fabric("cpu", 1, "auto", "32-true")
    return {
        name: {
            kind: shares(step_of(fabric, size, traced), step_of(single, size, traced), fabric, rounds)
            for kind, traced in (("traced", True), ("eager", False))
        }
        for name, size in SIZES.items()
    }


def main() -> None:
    """Measures in two processes and prints in the first."""
    parser = argparse.ArgumentParser(description="The share of a step that two processes spend in communication.")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each way")
    options = parser.parse_args()
    fabric = make_fabric("cpu", 2, "ddp", "32-true")
    launch(fabric)
    torch.set_num_threads(1)
    for name, found in measure(fabric, options.rounds).items():
        for kind, share in found.items():
            fabric.print(f"VAE {name}, {kind:6s}: {share.median:.2f} of the step ({share.low:.2f} to {share.high:.2f})")


if __name__ == "__main__":
    main()
