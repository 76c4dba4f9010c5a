"""Draws from a guide for any number of rows, block by block, the same whatever part of them is asked for.

Convention of this module: values keep the batch dims of the run that drew them, particles leftmost. Each block of rows
has a random state of its own, derived from the seed and the block's number; global sites are drawn with the first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from pyro import poutine
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import PplError, ProgramError
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.latents import FirstBlock, Latents
from ppl_genmodels.inference.replay import Function, Groups, Replay
from ppl_genmodels.inference.state import module_device, placing
from ppl_genmodels.inference.together import rows_to_try
from ppl_genmodels.objectives.run import Run, Traced
from ppl_genmodels.probe import describe_data
from ppl_genmodels.program import Program
from ppl_genmodels.structure import Node

__all__ = ["GuideBlocks"]

BLOCK = 32
"""Rows drawn together."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class GuideBlocks:
    """The guide of a program over the rows of a data set.

    Args:
        program: The program.
        rows: The data.
        num_samples: Draws for each row.
        seed: Of the draws.
        compile: As in :func:`ppl_genmodels.fit`; whether blocks are replayed from a graph changes no number.
        passes: How often the rows will be gone through, for other draws each time.

    Attributes:
        divisible: Whether rows can be drawn in parts; not when an autoguide holds parameters for each row, when the
            guide reads a global site off the data, nor without a data plate.
        block: Rows drawn together.
    """

    def __init__(
        self, program: Program, rows: Rows, num_samples: int, seed: int, compile: Mode = "auto", passes: int = 1
    ) -> None:
        self.program, self.rows, self.num_samples, self.seed = program, rows, num_samples, seed
        self.compile, self.passes = compile, passes
        self.device, self._place, self._count = module_device(program), placing(program), len(rows)
        self._taken: tuple[int, int, Arguments] = (0, 0, ((), {}))
        args, kwargs = self.take(0, rows_to_try(program, rows, BLOCK))
        self.structure = program.structure(*args, **kwargs)
        local = any(self.structure.is_local(site.name) for site in self.structure.latent)
        self._first: FirstBlock | None = None
        self._globals: dict[str, Node] = {}  # one dict for all that are reseeded from this
        self._newest: tuple[int, Latents] | None = None
        self.divisible = self.structure.data_plate is not None and not (program.has_autoguide and local)
        self.divisible = self.divisible and not self._globals_depend_on_rows()
        self.block = BLOCK if self.divisible else len(rows)
        self._replay = self.replay(self._block, "the guide", self.block)

    def reseeded(self, seed: int) -> GuideBlocks:
        """The same for other draws, sharing every graph."""
        other = copy.copy(self)
        other.seed, other._first, other._newest = seed, None, None
        return other

    def replay(self, function: Function, what: str, size: int) -> Replay:
        """A part of the program's run on so many rows at a time, replayed from a graph where that pays."""
        return Replay(function, self.program, what, self.compile, calls=self.passes * (len(self.rows) // size))

    @property
    def joint(self) -> bool:
        """Whether draws of all rows have one weight: some site of the guide is global, or there is no data plate."""
        return self.structure.data_plate is None or bool(self._globals)

    def take(self, start: int, stop: int) -> Arguments:
        """Rows as arguments on the program's device, in its precision."""
        first, last, (args, kwargs) = self._taken
        if not first <= start < stop <= last:
            return self._place(self.rows.take(slice(start, stop)))
        own = slice(start - first, stop - first)
        return tuple(value[own] for value in args), {name: value[own] for name, value in kwargs.items()}

    def draw(self, start: int, stop: int) -> Latents:
        """The latent values of some rows, cut from whole blocks.

        Raises:
            ProgramError: When the guide cannot serve these rows.
        """
        return self.cut(self.whole(start, stop), start, stop)

    def whole(self, start: int, stop: int) -> dict[int, Latents]:
        """The blocks, by number, that hold some rows.

        Raises:
            ProgramError: When the guide cannot serve these rows.
        """
        numbers = range(start // self.block, -(-stop // self.block))
        if self.rows.dataset is None and len(numbers) > 1:
            first, last = self.bounds(numbers[0])[0], self.bounds(numbers[-1])[1]
            self._taken = (first, last, self._place(self.rows.take(slice(first, last))))
        return {number: self._drawn(number) for number in numbers}

    def cut(self, blocks: dict[int, Latents], start: int, stop: int) -> Latents:
        """Some rows out of blocks that follow one another."""
        parts = []
        for number, latents in blocks.items():
            first, last = self.bounds(number)
            parts.append(latents.cut(max(start, first) - first, min(stop, last) - first))
        return Latents.join(parts)

    def bounds(self, number: int) -> tuple[int, int]:
        """The first row of a block, and the one after its last."""
        return number * self.block, min((number + 1) * self.block, self._count)

    def seeded(self, number: int, purpose: int) -> None:
        """Sets the random state of a block for a purpose: 0 for latent values, 1 for replicated observations."""
        seed = (self.seed * 1_000_003 + 2 * number + purpose) % 2**63
        # torch.manual_seed seeds every kind of device there is, which takes as long as a small guide.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)
        elif self.device.type != "cpu":
            torch.manual_seed(seed)

    def _drawn(self, number: int) -> Latents:
        """A block; the first one draws the global sites, each time alike, and the others keep them."""
        if self._first is None:
            self._first = self._draw_first()
        if number == 0:
            return self._first.latents
        if self._newest is None or self._newest[0] != number:
            self._newest = (number, self._first.shared(*self.bounds(number)) or self._draw_next(number))
        return self._newest[1]

    def _draw_first(self) -> FirstBlock:
        run = Run(self.program, *self.take(*self.bounds(0)), self.num_samples)
        self.seeded(0, 0)
        traced = self._guided(run, poutine.Trace())
        self._globals.update((name, node) for name, node in traced.latent.items() if not run.is_local(node))
        held = {name: traced.nodes[name]["value"] for name in self._globals}
        return FirstBlock(self._latents(run, traced), held, len(held) == len(traced.latent))

    def _draw_next(self, number: int) -> Latents:
        args, kwargs = self.take(*self.bounds(number))
        first = cast(FirstBlock, self._first)
        self.seeded(number, 0)
        groups = self._replay.replay(args, kwargs, first.globals)
        if groups is None or not groups[1]["local"].isfinite().all():
            self.seeded(number, 0)  # run eagerly, which is validated and names the site at fault
            groups = self._block(args, kwargs, first.globals)
        values, log_q = groups
        return Latents(values, first.latents.axes, log_q["local"], first.latents.global_log_q)

    def _block(self, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]) -> Groups:
        """The values and the log-density of a block after the first, given the values of the global sites."""
        run, known = Run(self.program, args, kwargs, self.num_samples), poutine.Trace()
        for name, node in self._globals.items():
            known.add_node(name, **{**node, "value": held[name]})
        latents = self._latents(run, self._guided(run, known))
        return latents.values, {"local": latents.local_log_q}

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
        rows = next((value.shape[0] for value in (*run.args, *run.kwargs.values())), 1)
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
