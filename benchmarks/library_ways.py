"""A training step with this library: ``compile_step`` in each of its modes.

Convention of this module: the reduced-precision products are asked for by name, never switched on silently, and stand
in rows of their own.
"""

from __future__ import annotations

import torch

from benchmarks.interleaved import Way
from benchmarks.tasks import Kind, Task
from ppl_genmodels.inference import compile_step
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.precision import MatmulPrecision, matmul_precision_set
from ppl_genmodels.objectives import Objective, elbo, iwae

__all__ = ["library_way"]

OBJECTIVES: dict[Kind, Objective] = {"vae": elbo(), "chain": elbo(), "regression": elbo(), "iwae": iwae()}


def library_way(task: Task, mode: Mode, matmul_precision: MatmulPrecision | None = None) -> Way:
    """The step of a mode.

    Args:
        task: What is trained.
        mode: ``"off"``, ``"trace"`` or ``"inductor"``.
        matmul_precision: Of the matrix products, set for the turn as ``fit`` sets it for a run; None leaves float32.

    Example:
        >>> from benchmarks.tasks import vae
        >>> library_way(vae(9, 4, 2, rows=3), "off").step() > 0
        True
    """
    program, batches = task.program(), task.rotation()
    optimizer = torch.optim.Adam(program.parameters(), task.learning_rate, fused=True)
    step = compile_step(OBJECTIVES[task.kind], program, optimizer, mode, task.particles)
    return Way(lambda: -step(*next(batches)).item(), matmul_precision_set(matmul_precision))
