"""The evidence of each datum under a fitted program, bounded from below by importance weighting.

Convention of this module: particles are taken in groups and rows in blocks, whose log-weights are summed in log space,
so that any number of either fits in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro
import torch
from rich.progress import Progress
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.blocks import GuideBlocks
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.posterior import fill_posterior
from ppl_genmodels.inference.replay import Groups
from ppl_genmodels.inference.site_arrays import Array
from ppl_genmodels.inference.together import draws_together, seed_of
from ppl_genmodels.objectives.evidence import log_weight
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.program import Program

__all__ = ["log_evidence"]

GROUP = 100
"""Particles drawn together."""
WHOLE = 2**26
"""Numbers of one observed site that a run of all rows may hold, where the rows share latent sites."""


def log_evidence(
    program: Program,
    rows: Rows,
    num_particles: int,
    seed: int = 0,
    progress: bool = False,
    compile: Mode = "auto",
) -> Tensor:
    r"""The importance-weighted bound :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k|x)` on the evidence of each datum.

    Args:
        program: A fitted program.
        rows: The data.
        num_particles: K; the bound rises to the evidence as K grows.
        seed: Of the draws.
        progress: Whether to show a progress bar.
        compile: Whether runs are replayed from graphs, as in :func:`ppl_genmodels.fit`; the numbers are the same.

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
    counts = [min(group, num_particles - done) for done in range(0, num_particles, group)]
    blocks = GuideBlocks(program, rows, counts[0], seed, compile, len(counts))
    shared = blocks.structure.has_globals
    widest = max((site.event_shape.numel() for site in blocks.structure.observed), default=1)
    if shared and blocks.divisible and len(rows) * counts[0] * widest > WHOLE:
        return _bound_in_chunks(blocks, counts, progress)
    size = len(rows) if shared else blocks.block
    bounds = _bounds(blocks, counts, size, progress)
    return bounds[0] if shared or len(bounds) != len(rows) else bounds


def _bounds(blocks: GuideBlocks, counts: list[int], size: int, progress: bool) -> Tensor:
    """The bound of each row, or of all rows of a run together."""
    total, filled = len(blocks.rows), 0
    bounds = torch.empty(total, device=blocks.device)
    weights = {
        count: blocks.replay(lambda *inputs, count=count: _weights(blocks.program, count, *inputs), "the weight", size)
        for count in set(counts)
    }
    with (
        torch.no_grad(),
        torch.random.fork_rng(),
        pyro.validation_enabled(False),
        Progress(disable=not progress) as bar,
    ):
        task = bar.add_task("evidence", total=total)
        for number, start in enumerate(range(0, total, size)):
            inputs = blocks.take(start, min(start + size, total))
            blocks.seeded(number, 0)
            bound = torch.tensor(-math.inf, device=blocks.device)
            for count in counts:
                ((log_mean,),) = (group.values() for group in weights[count](*inputs, {}))
                bound = torch.logaddexp(bound, log_mean)
            bounds[filled : filled + len(bound)] = bound - math.log(sum(counts))
            filled += len(bound)
            bar.update(task, advance=size)
    return bounds[:filled]


def _weights(
    program: Program, count: int, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]
) -> Groups:
    """The log of the summed weights of some particles."""
    return ({"log_weight": log_weight(Run(program, args, kwargs, count)).logsumexp(0)},)


class _OnlyWeights:
    """A store that keeps the log-weights and forgets the rest."""

    def __init__(self) -> None:
        self.log_weight: Array = np.empty(0)

    def begin(self, sizes: Mapping[str, int]) -> None:
        pass

    def create(self, group: str, name: str, dims: tuple[str, ...], shape: tuple[int, ...], piece: Array) -> Any:
        if name == "log_weight":
            self.log_weight = np.empty(shape, piece.dtype)
        return self.log_weight if name == "log_weight" else _Forgotten()


class _Forgotten:
    def __setitem__(self, index: Any, value: Any) -> None:
        pass


def _bound_in_chunks(blocks: GuideBlocks, counts: list[int], progress: bool) -> Tensor:
    """The bound of all rows together from weights that are summed over chunks of them."""
    bound = torch.tensor(-math.inf)
    for number, count in enumerate(counts):
        store = _OnlyWeights()
        seed = seed_of(blocks.seed, number) if number else blocks.seed
        fill_posterior(store, blocks.program, blocks.rows, count, None, False, seed, progress, blocks.compile)
        bound = torch.logaddexp(bound, torch.from_numpy(store.log_weight[0]).logsumexp(0))
    return bound.to(blocks.device) - math.log(sum(counts))
