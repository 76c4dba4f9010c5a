"""The run of a program in which one site of the guide has other values.

Convention of this module: alternatives are particles: a run of P particles with A alternatives is a run of A * P
particles, the alternatives outermost.
"""

from __future__ import annotations

from collections.abc import Callable

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.handlers.estimator import NamedAtSites
from ppl_genmodels.handlers.later import REDRAWN, Later
from ppl_genmodels.handlers.noise_handler import gradient_passes
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.structure import is_deterministic

__all__ = ["run_with"]


def run_with(run: Run, name: str, values: Tensor, later: Later, after: frozenset[str]) -> Run:
    """A run in which a site of the guide has other values, and sites that do not depend on it keep their draws.

    Args:
        run: The run that was made.
        name: The site.
        values: Shape (alternatives, particles, \\*batch, \\*event), with a dim for each plate dim of the run.
        later: What becomes of the sites that depend on it.
        after: Their names.
    """
    count = len(values)
    other = Run(run.program, run.args, run.kwargs, count * run.num_particles, run.step, run.data_size)
    substituted = _Substituted(run, name, values, later, after)
    with NamedAtSites(), substituted:
        other.__dict__["guide"] = other.trace_particles(run.program.guide)  # type: ignore[arg-type]
    return other


class _Substituted(Messenger):
    """Gives the sites of a guide their values in the alternatives."""

    def __init__(self, run: Run, name: str, values: Tensor, later: Later, after: frozenset[str]) -> None:
        super().__init__()
        self.run, self.name, self.values, self.later, self.after = run, name, values, later, after

    def _pyro_sample(self, msg: Message) -> None:
        name, nodes = msg["name"], self.run.guide.nodes
        if name not in nodes or nodes[name]["is_observed"] or is_deterministic(msg):
            return
        if name == self.name:
            msg["value"] = self._as_particles(self.values, msg)
        else:
            held = self._in_layout(nodes[name]["value"], len(nodes[name]["fn"].event_shape))
            kept = self._as_particles(held.expand(len(self.values), *held.shape), msg)
            msg["value"] = self._later_value(msg, kept) if name in self.after else kept
        msg["done"] = True

    def _later_value(self, msg: Message, kept: Tensor) -> Tensor:
        """Of a site after the exchanged one; made from noise also where an estimator is to make its gradient."""
        value = self.later(msg["name"], msg["fn"], kept, self._share(msg))
        return value.detach() if self.later is REDRAWN and not gradient_passes(msg) else value

    def _share(self, msg: Message) -> Callable[[Tensor], Tensor]:
        """Makes noise of a site the same for all alternatives."""
        count, particles, nesting = len(self.values), self.run.num_particles, self.run.structure.max_plate_nesting
        batch_dims = len(msg["fn"].batch_shape)

        def share(noise: Tensor) -> Tensor:
            if batch_dims <= nesting:
                return noise  # the same for all particles as it stands
            return noise[:particles].repeat(count, *(1 for _ in noise.shape[1:]))

        return share

    def _in_layout(self, value: Tensor, event_dim: int) -> Tensor:
        missing = self.run.structure.max_plate_nesting + 1 + event_dim - value.dim()
        return value.reshape((1,) * missing + tuple(value.shape))

    def _as_particles(self, values: Tensor, msg: Message) -> Tensor:
        """Alternatives and particles as one dim."""
        expanded = values.expand(values.shape[0], self.run.num_particles, *values.shape[2:])
        return expanded.reshape(-1, *values.shape[2:])
