"""Draws from a guide for any number of rows, block by block, the same whatever part of them is asked for.

Convention of this module: values keep the batch dims of the run that drew them, particles leftmost. Each block of rows
has a random state of its own, derived from the seed and the block's number; global sites are drawn with the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import PplError, ProgramError
from ppl_genmodels.inference.state import module_device, placed
from ppl_genmodels.objectives.run import Run, Traced
from ppl_genmodels.probe import describe_data
from ppl_genmodels.program import Program
from ppl_genmodels.structure import Node

__all__ = ["GuideBlocks", "Latents"]

BLOCK = 32
"""Rows drawn together."""


@dataclass(frozen=True)
class Latents:
    """Latent values of some rows.

    Attributes:
        values: By site; shape (draws, *batch, *event) with the batch dims of a run.
        axes: For each local site the axis of its rows.
        local_log_q: Log-density of the local sites in nats, shape (draws, rows).
        global_log_q: Log-density of the global sites in nats, shape (draws,).
    """

    values: dict[str, Tensor]
    axes: dict[str, int]
    local_log_q: Tensor
    global_log_q: Tensor

    def cut(self, start: int, stop: int) -> Latents:
        """Some of the rows."""
        count = stop - start
        values = {
            name: value.narrow(self.axes[name], start, count) if name in self.axes else value
            for name, value in self.values.items()
        }
        local = self.local_log_q[:, start:stop]
        return Latents(values, self.axes, local, self.global_log_q)

    @staticmethod
    def join(parts: list[Latents]) -> Latents:
        """Rows of several parts, one after another."""
        first = parts[0]
        values = {
            name: torch.cat([part.values[name] for part in parts], first.axes[name]) if name in first.axes else value
            for name, value in first.values.items()
        }
        local = torch.cat([part.local_log_q for part in parts], 1)
        return Latents(values, first.axes, local, first.global_log_q)


class GuideBlocks:
    """The guide of a program over the rows of a data set.

    Args:
        program: The program.
        rows: The data.
        num_samples: Draws for each row.
        seed: Of the draws.

    Attributes:
        divisible: Whether rows can be drawn in parts; not when an autoguide holds parameters for each row, when the
            guide reads a global site off the data, nor without a data plate.
    """

    def __init__(self, program: Program, rows: Rows, num_samples: int, seed: int) -> None:
        self.program, self.rows = program, rows
        self.num_samples, self.seed = num_samples, seed
        self.device = module_device(program)
        args, kwargs = self.take(0, len(rows) if program.has_autoguide else min(BLOCK, len(rows)))
        self.structure = program.structure(*args, **kwargs)
        local = any(self.structure.is_local(site.name) for site in self.structure.latent)
        self._globals = poutine.Trace()
        self._begun = False
        self._newest: tuple[int, Latents] | None = None
        self.divisible = self.structure.data_plate is not None and not (program.has_autoguide and local)
        self.divisible = self.divisible and not self._globals_depend_on_rows()
        self.block = BLOCK if self.divisible else len(rows)

    @property
    def joint(self) -> bool:
        """Whether draws of all rows have one weight: some site of the guide is global, or there is no data plate."""
        return self.structure.data_plate is None or bool(self._globals.nodes)

    def take(self, start: int, stop: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Rows as arguments on the program's device, in its precision."""
        return placed(self.rows.take(slice(start, stop)), self.program)

    def run(self, start: int, stop: int) -> Run:
        """A run on some rows with one particle per draw."""
        args, kwargs = self.take(start, stop)
        return Run(self.program, args, kwargs, self.num_samples)

    def draw(self, start: int, stop: int) -> Latents:
        """The latent values of some rows, cut from whole blocks.

        Raises:
            ProgramError: When the guide cannot serve these rows.
        """
        parts = []
        for number in range(start // self.block, -(-stop // self.block)):
            first = number * self.block
            last = min(first + self.block, len(self.rows))
            parts.append(self._drawn(number).cut(max(start - first, 0), min(stop, last) - first))
        return Latents.join(parts)

    def seeded(self, number: int, purpose: int) -> None:
        """Sets the random state of a block for a purpose: 0 for latent values, 1 for replicated observations."""
        torch.manual_seed((self.seed * 1_000_003 + 2 * number + purpose) % 2**63)

    def _drawn(self, number: int) -> Latents:
        if self._newest is None or self._newest[0] != number:
            if number and not self._begun:
                self._drawn(0)
            start = number * self.block
            run = self.run(start, min(start + self.block, len(self.rows)))
            self.seeded(number, 0)
            self._newest = (number, self._latents(run, self._traced(number, run)))
        return self._newest[1]

    def _globals_depend_on_rows(self) -> bool:
        """Whether one draw of the global sites has another density under the last rows than under the first."""
        if not self.structure.has_globals or len(self.rows) <= BLOCK:
            return False
        starts = (0, len(self.rows) - BLOCK)
        first, last = (Run(self.program, *self.take(start, start + BLOCK)) for start in starts)
        with torch.no_grad(), torch.random.fork_rng():
            drawn = self._guided(first, poutine.Trace())
            again = self._guided(last, drawn.trace)
        return any(
            not torch.equal(first.raw_log_prob(node), last.raw_log_prob(again.nodes[name]))
            for name, node in drawn.latent.items()
            if not first.is_local(node)
        )

    def _traced(self, number: int, run: Run) -> Traced:
        """The guide's trace; the first block draws the global sites, each time alike, and the others keep them."""
        traced = self._guided(run, self._globals if number else poutine.Trace())
        if not self._begun:
            self._begun = True
            for name, node in traced.latent.items():
                if not run.is_local(node):
                    self._globals.add_node(name, **node)
        return traced

    def _guided(self, run: Run, known: poutine.Trace) -> Traced:
        """The guide's trace with the sites of another trace kept."""
        guide = self.program.guide
        if guide is None:
            return Traced(poutine.Trace())
        return self._particles(run, poutine.replay(guide, trace=known), "guide")

    def modelled(self, run: Run, model: Callable[..., Any]) -> Traced:
        """The trace of a model, its latent values already put in.

        Raises:
            ProgramError: When it fails.
        """
        return self._particles(run, model, "model")

    def _particles(self, run: Run, fn: Callable[..., Any], role: str) -> Traced:
        try:
            return run.trace_particles(fn)
        except PplError:
            raise
        except (ValueError, RuntimeError, TypeError) as error:
            raise ProgramError(
                f"the {role} failed on {describe_data(run.args, run.kwargs)} with {run.num_particles} draws: "
                f"{str(error).splitlines()[0]}. Remedy: give data of the shape it was fitted on. A guide with "
                f"parameters for each row serves those rows only; guides.Amortized serves any. Draws are a plate left "
                f"of all others, so index batch dims from the right (dim=-1, x[..., 0])."
            ) from error

    def _latents(self, run: Run, traced: Traced) -> Latents:
        rows = next(iter((*run.args, *run.kwargs.values()))).shape[0]
        local = torch.zeros(self.num_samples, rows, device=self.device)
        global_ = torch.zeros(self.num_samples, device=self.device)
        values, axes = {}, {}
        known = {site.name for site in self.structure.latent}
        for name, node in traced.latent.items():
            log_q = run.sum_to_datum(node, run.site_log_prob(node))
            if run.is_local(node):
                _check_rows(name, log_q.shape[1], rows)
                local = local + log_q
                axes[name] = _row_axis(node, self.structure.data_dim)
            else:
                global_ = global_ + log_q[:, 0]
            if name in known:
                values[name] = node["value"]
        return Latents(values, {n: a for n, a in axes.items() if n in known}, local, global_)


def _check_rows(name: str, received: int, expected: int) -> None:
    if received != expected:
        raise ProgramError(
            f"the guide draws site '{name}' for {received} rows and the data have {expected}. Remedy: give those rows; "
            f"a guide with parameters for each row serves those rows only, guides.Amortized serves any."
        )


def _row_axis(node: Node, data_dim: int) -> int:
    return int(node["value"].dim() - node["fn"].event_dim + data_dim)
