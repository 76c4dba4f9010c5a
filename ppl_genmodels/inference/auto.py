"""``compile="auto"``: steps are traced where that is measured to pay, and run eagerly elsewhere.

Convention of this module: an eager step and a replayed one give the same numbers, so that what the clock decides can
not be told from the results; for that reason nothing is lowered here.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ppl_genmodels.inference.compiled import CompiledGradient
from ppl_genmodels.inference.signature import shapes

__all__ = ["AutoGradient"]

TRIED = 4
"""Steps that are run eagerly before one is traced, and replayed before the two are compared."""
WORTH_TRACING = 250
"""Steps of one layout that must lie ahead. Tracing takes as long as some ninety steps of a small model, which a graph
makes at least twice as fast, and as long as a few steps of a large one."""


@dataclass
class _Layout:
    """What is known about the batches of one layout: how often they came, and how long a step took either way."""

    count: int = 0
    traced: bool = False
    seconds: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    def faster_traced(self) -> bool:
        """Whether replaying is not slower, as far as it was tried."""
        eager, traced = self.seconds[False], self.seconds[True]
        return len(traced) < TRIED or statistics.median(traced) <= statistics.median(eager)


class AutoGradient:
    """A compiled gradient that is used where it pays.

    A layout of the data is traced when it has come a few times and is expected to come often enough again; it goes
    back to eager steps when replaying turns out to be slower.

    Args:
        compiled: The gradient, traced and not lowered.
        steps: Steps of the whole run.

    Example:
        >>> import torch
        >>> from ppl_genmodels.models import VAE
        >>> from ppl_genmodels.objectives import elbo
        >>> from ppl_genmodels.program import as_program
        >>> compiled = CompiledGradient(elbo(), as_program(VAE(data_dim=9, latent_dim=2)))
        >>> gradient = AutoGradient(compiled, steps=1000)
        >>> [gradient((torch.ones(4, 9),), {}, step) is None for step in range(6)]
        [True, True, True, True, False, False]
    """

    def __init__(self, compiled: CompiledGradient, steps: int) -> None:
        self.compiled, self.steps = compiled, steps
        self._layouts: dict[Any, _Layout] = {}
        self._calls = 0
        self._previous: tuple[_Layout, bool, float] | None = None

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], step: int, scale: Tensor | None = None
    ) -> Tensor | None:
        """As :class:`CompiledGradient`; None when this step is to be run eagerly."""
        began = self._note_previous()
        layout = self._layouts.setdefault(shapes(args, kwargs), _Layout())
        layout.count += 1
        self._calls += 1
        replayed = self._pays(layout, self.steps - step)
        values = self.compiled(args, kwargs, step, scale) if replayed else None
        first = replayed and not layout.traced  # this step's time has the tracing in it
        layout.traced = layout.traced or replayed
        self._previous = None if first else (layout, values is not None, began)
        return values

    def _note_previous(self) -> float:
        now = time.perf_counter()
        if self._previous is not None:
            layout, traced, began = self._previous
            if len(layout.seconds[traced]) < TRIED:
                layout.seconds[traced].append(now - began)
        return now

    def _pays(self, layout: _Layout, ahead: int) -> bool:
        if layout.traced:
            return layout.faster_traced()
        expected = layout.count / self._calls * ahead
        return layout.count > TRIED and expected >= WORTH_TRACING
