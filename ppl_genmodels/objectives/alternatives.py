"""What other draws of a site would cost.

Convention of this module: costs of alternatives are the linear parts of the objective, summed over every plate but the
data's, with one dim for the particles and one for each plate dim of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import for_gradient
from ppl_genmodels.handlers.later import Later, Linear
from ppl_genmodels.objectives.costs import SiteCosts
from ppl_genmodels.objectives.exchanged import run_with
from ppl_genmodels.objectives.parts import LinearPart, descendants, plate_dims, sorted_parts, summed_to
from ppl_genmodels.objectives.run import Part, Run

__all__ = ["SiteAlternatives"]


class SiteAlternatives(SiteCosts):
    """A latent site of the guide, its draw, and what that and other draws cost."""

    @property
    def objective(self) -> Tensor:
        """The linear parts of the objective as they were drawn, laid out as those of alternatives, with gradient."""
        linear, _ = sorted_parts(self.parts)
        return self._cost(self.run, linear)

    def alternatives(self, draws: Tensor, later: Later, gradient: bool = False) -> tuple[Tensor, Tensor]:
        r"""What other draws of this site would cost. Sites whose draws do not depend on this one's keep them.

        Args:
            draws: Shape (alternatives, particles, \*batch, \*event), in batch layout.
            later: What becomes of the sites that depend on this one.
            gradient: Whether the gradient passes.

        Returns:
            The linear parts of the objective, summed over every plate but the data's, shape (alternatives, particles,
            \*plates); and so the log-density of the guide's later draws that depend on this one.

        Raises:
            ProgramError: When a term of the objective mixes the particles, which alternatives are.
        """
        with torch.set_grad_enabled(gradient), self._elsewhere(later):
            run, linear = self._exchanged(draws, later)
            cost = self._cost(run, linear)
            after = [node for name, node in run.guide.latent.items() if name in self._after]
            log_probs = [self._to_data(run, Part(node, run.raw_log_prob(node))) for node in after]
            log_prob = sum(log_probs, start=torch.zeros_like(cost))
        layout = (len(draws), -1, *cost.shape[1:])
        return cost.reshape(layout), log_prob.reshape(layout)

    def around(self, draw: Tensor, later: Later) -> tuple[Tensor, Tensor]:
        r"""What another draw would cost, and how that changes with the draw.

        Args:
            draw: Shape (particles, \*batch, \*event), in batch layout.
            later: What becomes of the sites that depend on this one.

        Returns:
            The parts downstream as in :attr:`cost`, and the gradient of the objective in the draw, of its shape.

        Raises:
            ProgramError: As :meth:`alternatives`.
        """
        with torch.enable_grad(), self._elsewhere(later):
            moved = draw.detach().expand(self.run.num_particles, *draw.shape[1:]).requires_grad_()
            run, linear = self._exchanged(moved.unsqueeze(0), later)
            (slope,) = torch.autograd.grad(self._cost(run, linear).sum(), moved, materialize_grads=True)
            there = SiteCosts(run, run.guide.nodes[self.name], list(linear), self.evaluate)
            return there.cost, slope

    @contextmanager
    def _elsewhere(self, later: Later) -> Iterator[None]:
        with for_gradient(), Linear() if later.is_linear else nullcontext():
            yield

    def _exchanged(self, draws: Tensor, later: Later) -> tuple[Run, list[LinearPart]]:
        """The run with other draws, and the parts of the objective on it."""
        run = run_with(self.run, self.name, draws, later, self._after)
        linear, mixed = sorted_parts(self.evaluate(run))
        if mixed:
            raise ProgramError(
                f"site '{self.name}': {type(self.node['infer']['gradient']).__name__} serves terms that are sums "
                f"over sites, such as log_lik and kl; this objective mixes the particles. Remedy: elbo(), or "
                f"handlers.score_function for this site."
            )
        return run, linear

    def _cost(self, run: Run, linear: list[LinearPart]) -> Tensor:
        """The linear parts, summed over every plate but the data's; what is global stands at each datum."""
        costs = [self._to_data(run, one.part, one.weight * run.share(one.part.node)) for one in linear]
        dims = [run.num_particles] + [1] * run.structure.max_plate_nesting
        for dim in self._data_plate:
            dims[dim] = run.batch_rows
        return sum(costs, start=torch.zeros(dims, device=run.device))

    def _to_data(self, run: Run, part: Part, factor: float | Tensor = 1.0) -> Tensor:
        value = run.batch_layout(part.value) * factor
        summed = summed_to(value, plate_dims(part.node), self._data_plate)
        return summed.expand(run.num_particles, *summed.shape[1:])

    @property
    def _after(self) -> frozenset[str]:
        """The sites of the guide whose draws depend on this one."""
        structure = self.run.structure
        known = structure.guide_parents or {name: tuple(self.run.guide.latent) for name in self.run.guide.latent}
        names = list(self.run.guide.latent)
        later = set(names[names.index(self.name) + 1 :])
        return frozenset(descendants(known, self.name) & later)

    @property
    def _data_plate(self) -> dict[int, str]:
        structure = self.run.structure
        if structure.data_plate is None or not self.run.is_local(self.node):
            return {}
        return {structure.data_dim: structure.data_plate}
