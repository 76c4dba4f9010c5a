"""A part of a program's run as a function of tensors, replayed from a graph where it is called often.

Convention of this module: a graph lives as long as one call of the library, in which neither parameters nor modules
change, so that it is never stale; it draws the same numbers as the eager run. One is traced for each layout of inputs
that comes back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.graph_trace import as_if_not_run, same, trace, warn_eager
from ppl_genmodels.inference.lowering import Flat, tidied
from ppl_genmodels.inference.signature import attributes, changed, shapes
from ppl_genmodels.inference.unvalidated import Unvalidated
from ppl_genmodels.program import Program

__all__ = ["Groups", "Replay"]

WORTH_TRACING = 250
"""Calls from which on a graph wins back the time that tracing takes, which is that of about a hundred eager runs."""
WORTH_LOADING = 6000
"""The same where nothing was traced before in this process: the first trace loads torch's compiler, a second or so."""

Groups: TypeAlias = tuple[dict[str, Tensor], ...]
"""What such a function gives: tensors by name, in groups."""
Function: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any], Mapping[str, Tensor]], Groups]
"""From positional and keyword data, and from other tensors by name."""


class Replay:
    """A function of data and of other tensors, run eagerly at first and then from graphs.

    The first result of a graph is compared with the eager one, which it must equal bit for bit.

    Args:
        function: What to run.
        program: Whose part it is.
        what: How messages call it.
        mode: ``"off"`` never traces, ``"trace"`` always does, any other mode when it pays.
        calls: How often it will be called.

    Attributes:
        traces: How many graphs were traced.

    Example:
        >>> import torch
        >>> program = Program(torch.nn.Identity())
        >>> doubled = Replay(lambda args, kwargs, held: ({"x": 2 * args[0]},), program, "doubling", "trace", 1)
        >>> doubled((torch.ones(2),), {}, {}), doubled.traces
        (({'x': tensor([2., 2.])},), 1)
    """

    def __init__(self, function: Function, program: Program, what: str, mode: Mode, calls: int) -> None:
        self.function, self.program, self.what = function, program, what
        self.traces = 0
        self._least = 1 if mode == "trace" else 2  # of a layout, before it is traced
        self._on = mode == "trace" or (mode != "off" and calls >= _worth())
        self._seen: dict[Any, int] = {}
        self._graphs: dict[Any, tuple[Any, list[list[str]]]] = {}

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]) -> Groups:
        """The function's result, from a graph when there is one."""
        replayed = self.replay(args, kwargs, held)
        return self.function(args, kwargs, held) if replayed is None else replayed

    def replay(self, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]) -> Groups | None:
        """The result of a graph; None when there is none for these inputs."""
        if not self._on:
            return None
        leaves = (*args, *kwargs.values(), *held.values())
        layout = (tuple(kwargs), tuple(held), shapes(leaves, {}))
        if layout not in self._graphs:
            self._seen[layout] = self._seen.get(layout, 0) + 1
            if self._seen[layout] < self._least or not self._trace(layout, args, kwargs, held):
                return None
        graph, names = self._graphs[layout]
        values = iter(graph(*leaves))
        return tuple({name: next(values) for name in group} for group in names)

    def _trace(self, layout: Any, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]) -> bool:
        """Makes a graph for these inputs; says so, and never tries again, when there can be none."""
        leaves = (*args, *kwargs.values(), *held.values())
        names: list[list[str]] = []

        def flat(*leaves: Any) -> list[Tensor]:
            rest = iter(leaves[len(args) :])
            named = {name: next(rest) for name in kwargs}
            with Unvalidated():
                groups = self.function(leaves[: len(args)], named, {name: next(rest) for name in held})
            names[:] = [list(group) for group in groups]
            return [value for group in groups for value in group.values()]

        self._on = all(isinstance(leaf, Tensor) for leaf in leaves)
        graph = self._graph(flat, leaves) if self._on else None
        self._on = graph is not None
        if graph is not None:
            self.traces += 1
            self._graphs[layout] = (graph, names)
        return self._on

    def _graph(self, flat: Flat, leaves: tuple[Tensor, ...]) -> Flat | None:
        """A graph that gives what the eager run gives from the same random state."""
        before = attributes(self.program)
        with as_if_not_run(self.program):
            expected = flat(*leaves)  # first, because a mistake of the program's is to be told as such
        traced = trace(flat, leaves, self.program, self.what)
        if traced is None:
            return None
        graph: Flat = tidied(traced).forward
        with as_if_not_run(self.program):
            received = graph(*leaves)
        change = changed(before, attributes(self.program))
        if not change and all(map(same, expected, received)):
            return graph
        warn_eager(self.what, (change or "its numbers differ from the eager ones") + ".")
        return None


def _worth() -> int:
    return WORTH_TRACING if "torch._inductor" in sys.modules else WORTH_LOADING
