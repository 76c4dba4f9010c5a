"""What data decide of a program before its training.

Convention of this module: rows are taken at random over the whole data set, as many as one batch.
"""

from __future__ import annotations

import torch

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.inference.state import placed
from ppl_genmodels.objectives import Run
from ppl_genmodels.program import Program
from ppl_genmodels.transforms import first_data, wait_for_data

__all__ = ["set_by_data"]


def set_by_data(program: Program, rows: Rows, count: int) -> None:
    """Lets layers that wait for data be set by some, in one run of guide and model.

    Args:
        program: The program, which has been checked on these data.
        rows: The training data.
        count: How many of them.
    """
    if not wait_for_data(program):
        return
    chosen = range(len(rows)) if program.has_autoguide else torch.randperm(len(rows))[:count].sort().values.tolist()
    args, kwargs = placed(rows.take(chosen), program)
    with torch.no_grad(), first_data():
        run = Run(program, args, kwargs)
        run.log_prob(run.model.nodes.values())
