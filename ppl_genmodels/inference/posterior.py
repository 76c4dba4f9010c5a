"""The posterior of new data under a fitted program: draws, weights, likelihoods, for any number of rows.

Convention of this module: rows are taken in chunks whose results go into a store at once; the draws do not depend on
the size of the chunks. What is summed over all rows is summed in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.blocks import BLOCK, GuideBlocks
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.draws import Draws
from ppl_genmodels.inference.parts import Part, Parts
from ppl_genmodels.inference.site_arrays import Array, compact, dim_sizes, row_axis, variable_dims
from ppl_genmodels.inference.store import MemoryStore, Store, Writable
from ppl_genmodels.inference.together import draws_together, seed_of
from ppl_genmodels.program import Program

__all__ = ["Inferred", "compact", "fill_posterior", "row_axis", "sample_posterior", "variable_dims"]

MEMORY = 2**24
"""Numbers of one observed site that a chunk may hold: draws times rows times event size."""
CACHE = 2**19
"""The same for a chunk that a processor works through fastest, because what it computes stays in its caches."""


@dataclass(frozen=True)
class Inferred:
    """What is known of a posterior beside its arrays.

    Attributes:
        dims: For each variable the names of its dims after (chain, draw).
        attrs: As those of :class:`~ppl_genmodels.inference.Draws`.
    """

    dims: dict[str, tuple[str, ...]]
    attrs: dict[str, str]


def sample_posterior(
    program: Program,
    rows: Rows,
    num_samples: int,
    chunk_size: int | None = None,
    predictive: bool = False,
    seed: int = 0,
    progress: bool = False,
    compile: Mode = "auto",
) -> Draws:
    """Draws from the guide for every row, with the model's densities at each draw.

    Args:
        program: A fitted program.
        rows: The data, of any number.
        num_samples: Draws for each row.
        chunk_size: Rows whose densities are computed together; by default what fits in some megabytes.
        predictive: Whether to draw replicated observations too.
        seed: Of the draws.
        progress: Whether to show a progress bar.
        compile: Whether runs are replayed from graphs, as in :func:`ppl_genmodels.fit`; the numbers are the same.

    Returns:
        Draws on the host, one chain.

    Raises:
        OptionError: When a number is below 1.
        ProgramError: When the guide cannot serve these rows.
    """
    store = MemoryStore()
    inferred = fill_posterior(store, program, rows, num_samples, chunk_size, predictive, seed, progress, compile)
    empty: dict[str, Array] = {}
    return Draws(
        posterior=store.groups.get("posterior", empty),
        dims=inferred.dims,
        log_likelihood=store.groups.get("log_likelihood", empty),
        sample_stats=store.groups.get("sample_stats", empty),
        posterior_predictive=store.groups.get("posterior_predictive", empty),
        observed_data=store.groups.get("observed_data", empty),
        attrs=inferred.attrs,
    )


def fill_posterior(
    store: Store,
    program: Program,
    rows: Rows,
    num_samples: int,
    chunk_size: int | None = None,
    predictive: bool = False,
    seed: int = 0,
    progress: bool = False,
    compile: Mode = "auto",
) -> Inferred:
    """Puts what :func:`sample_posterior` gives into a store, chunk by chunk.

    Args:
        store: Where to put it.
        program: As there, and so are the others.
        rows: The data.
        num_samples: Draws for each row.
        chunk_size: Rows computed together.
        predictive: Whether to draw replicated observations too.
        seed: Of the draws.
        progress: Whether to show a progress bar.
        compile: Whether runs are replayed from graphs.

    Raises:
        OptionError: When a number is below 1.
        ProgramError: When the guide cannot serve these rows.
    """
    if num_samples < 1 or (chunk_size is not None and chunk_size < 1):
        raise OptionError(f"num_samples and chunk_size must be at least 1, got {num_samples} and {chunk_size}.")
    with torch.no_grad(), torch.random.fork_rng(), Progress(disable=not progress) as bar:
        together = num_samples == 1 or draws_together(program, rows)
        seeds = [seed] if together else [seed_of(seed, draw) for draw in range(num_samples)]
        blocks = GuideBlocks(program, rows, num_samples // len(seeds), seeds[0], compile, len(seeds))
        chunk = (chunk_size or _affordable(blocks)) if blocks.divisible else len(rows)
        parts, filling = Parts(blocks, chunk, predictive), _Filling(store, blocks, num_samples)
        named = "infer" if together else "infer, one draw at a time"
        store.begin(dim_sizes(blocks.structure, len(rows)))
        task = bar.add_task(named, total=len(rows) * len(seeds))
        for one_seed in seeds:
            again = blocks.reseeded(one_seed)
            for start in range(0, len(rows), chunk):
                stop = min(start + chunk, len(rows))
                filling.add(parts.part(again, start, stop), again.joint, start, stop)
                bar.update(task, advance=stop - start)
            filling.end_pass(again.joint)
    attrs = {"method": "variational inference", "data_plate": blocks.structure.data_plate or ""}
    return Inferred(filling.dims, attrs)


class _Filling:
    """Puts parts into a store: each variable is made when its first piece is there.

    Args:
        store: Where to put them.
        blocks: Who draws.
        num_samples: Draws in all; ``blocks`` may make fewer in a pass.
    """

    def __init__(self, store: Store, blocks: GuideBlocks, num_samples: int) -> None:
        self.store, self.structure, self.rows = store, blocks.structure, len(blocks.rows)
        self.num_samples, self.draws, self.first_draw = num_samples, blocks.num_samples, 0
        self.dims = variable_dims(self.structure)
        self._variables: dict[tuple[str, str], Writable] = {}
        self._totals: dict[str, NDArray[np.float64]] = {}

    def add(self, part: Part, joint: bool, start: int, stop: int) -> None:
        """Puts some rows of the draws of this pass."""
        for group in ("posterior", "log_likelihood", "posterior_predictive"):
            for name, array in getattr(part, group).items():
                self._put(group, name, array, row_axis(self.structure.site(name), self.structure), start, stop)
        if self.first_draw == 0:
            for name, array in part.observed_data.items():
                axis = row_axis(self.structure.site(name), self.structure, leading=0)
                self._put("observed_data", name, array, axis, start, stop)
        if joint:
            self._accumulate(part, start)
            return
        weight = {"log_weight": part.local["log_p"] - part.local["log_q"]}
        for name, array in (part.local | weight).items():
            self._put("sample_stats", name, array, 1, start, stop)

    def end_pass(self, joint: bool) -> None:
        """Ends the draws of this pass; what was summed over rows is known now."""
        if joint:
            totals = self._totals | {"log_weight": self._totals["log_p"] - self._totals["log_q"]}
            for name, total in totals.items():
                self._put("sample_stats", name, total.astype(self._dtype), None, 0, self.rows)
        self._totals = {}
        self.first_draw += self.draws

    def _accumulate(self, part: Part, start: int) -> None:
        """Adds to the log-densities of all rows together; those of global sites once."""
        self._dtype = part.local["log_p"].dtype
        for name, array in part.local.items():
            value = array.sum(1, dtype=np.float64)
            self._totals[name] = self._totals[name] + value if start else value + part.shared[name]

    def _put(self, group: str, name: str, array: Array, axis: int | None, start: int, stop: int) -> None:
        """Writes a piece whose rows lie along an axis; one without rows is written with the first."""
        if axis is None and start:
            return
        drawn = group != "observed_data"
        rows = slice(start, stop) if axis is not None else slice(None)
        index = [rows if i == axis else slice(None) for i in range(array.ndim)]
        if drawn:
            index[0] = slice(self.first_draw, self.first_draw + self.draws)
        if (group, name) not in self._variables:
            self._variables[group, name] = self._create(group, name, array, axis, drawn)
        self._variables[group, name][(0, *index) if drawn else tuple(index)] = array

    def _create(self, group: str, name: str, array: Array, axis: int | None, drawn: bool) -> Writable:
        shape = [self.rows if i == axis else size for i, size in enumerate(array.shape)]
        named = self.dims.get(name, () if axis is None else (self.structure.data_plate or "",))
        if not drawn:
            return self.store.create(group, name, named, tuple(shape), array)
        shape[0] = self.num_samples
        dims = ("chain", "draw", *named[: array.ndim - 1])
        return self.store.create(group, name, dims, (1, *shape), array[None])


def _affordable(blocks: GuideBlocks) -> int:
    """How many rows' densities to compute together: whole blocks, where one fits in memory."""
    widest = max((site.event_shape.numel() for site in blocks.structure.observed), default=1)
    row = blocks.num_samples * widest
    best = (CACHE if blocks.device.type == "cpu" else MEMORY) // row
    return max(1, min(max(best - best % BLOCK, BLOCK), MEMORY // row))
