"""The evidence of each datum under a fitted program, bounded from below by importance weighting.

Convention of this module: particles are taken in groups whose log-weights are summed in log space, so that any number
of them fits in memory.
"""

from __future__ import annotations

import math

import pyro
import torch
from rich.progress import Progress
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.blocks import GuideBlocks
from ppl_genmodels.inference.together import draws_together
from ppl_genmodels.objectives.evidence import log_weight
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.program import Program

__all__ = ["log_evidence"]

GROUP = 100
"""Particles drawn together."""


def log_evidence(program: Program, rows: Rows, num_particles: int, seed: int = 0, progress: bool = False) -> Tensor:
    r"""The importance-weighted bound :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k|x)` on the evidence of each datum.

    Args:
        program: A fitted program.
        rows: The data.
        num_particles: K; the bound rises to the evidence as K grows.
        seed: Of the draws.
        progress: Whether to show a progress bar.

    Returns:
        In nats, shape (rows,). When latent sites are shared by the rows: shape (), the bound on the evidence of
        all of them together.

    Raises:
        OptionError: When ``num_particles`` is below 1.

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance Weighted Autoencoders, equation 8.
    """
    if num_particles < 1:
        raise OptionError(f"num_particles must be at least 1, got {num_particles}.")
    group = GROUP if draws_together(program, rows) else 1
    blocks = GuideBlocks(program, rows, min(num_particles, group), seed)
    whole = blocks.structure.has_globals or not blocks.divisible
    size = len(rows) if whole else blocks.block
    starts = range(0, len(rows), size)
    with torch.no_grad(), torch.random.fork_rng(), Progress(disable=not progress) as bar:
        task = bar.add_task("evidence", total=len(rows))
        parts = []
        for number, start in enumerate(starts):
            args, kwargs = blocks.take(start, min(start + size, len(rows)))
            blocks.seeded(number, 0)
            parts.append(_bound(program, args, kwargs, num_particles, group))
            bar.update(task, advance=size)
    bounds = torch.cat(parts)
    return bounds[0] if blocks.structure.has_globals or len(bounds) != len(rows) else bounds


def _bound(
    program: Program, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], num_particles: int, group: int
) -> Tensor:
    total = torch.tensor(-math.inf)
    with pyro.validation_enabled(False):
        for done in range(0, num_particles, group):
            run = Run(program, args, kwargs, min(group, num_particles - done))
            total = torch.logaddexp(total.to(run.device), log_weight(run).logsumexp(0))
    return total - math.log(num_particles)
