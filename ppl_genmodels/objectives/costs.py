"""What the draw of a site costs: the parts of an objective that it has an influence on.

Convention of this module: a tensor in batch layout has one dim for the particles and one for each plate dim of the
run, of size 1 where it is not repeated. Costs are what is maximised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import for_gradient
from ppl_genmodels.handlers.later import Later, Linear
from ppl_genmodels.objectives.alternatives import run_with
from ppl_genmodels.objectives.run import Part, Run
from ppl_genmodels.structure import Node, Structure, plates_of

__all__ = ["LinearPart", "MixedPart", "Parts", "SiteCosts"]


@dataclass(frozen=True)
class LinearPart:
    """One site's share in a term in which each particle stands alone.

    Attributes:
        part: The site and its value, in the run's own scale.
        weight: The term's weight.
    """

    part: Part
    weight: float | Tensor


@dataclass(frozen=True)
class MixedPart:
    """A term in which all particles of a datum enter, or one whose parts are not known.

    Attributes:
        values: Shape (particles, data) or (1, data).
        weight: The term's weight.
        mixes_particles: Whether its particles are mixed.
        without_particle: Gives what the values would be without each of the particles, shape (particles, data).
    """

    values: Tensor
    weight: float | Tensor
    mixes_particles: bool
    without_particle: Callable[[], Tensor] | None = None


Parts = list[LinearPart | MixedPart]


class SiteCosts:
    """A latent site of the guide, its draw, and what the draw costs.

    Args:
        run: The run.
        node: The site's node in the guide's trace.
        parts: The parts of the objective.
        evaluate: The objective's parts on another run.
    """

    def __init__(self, run: Run, node: Node, parts: Parts, evaluate: Callable[[Run], Parts]) -> None:
        self.run, self.node, self._parts, self._evaluate = run, node, parts, evaluate
        self.name, self.fn, self.value = node["name"], node["fn"], node["value"]

    @cached_property
    def log_prob(self) -> Tensor:
        """The log-density of the draw, masked and not scaled, in batch layout, with gradient."""
        return self.run.batch_layout(scale_and_mask(self.run.raw_log_prob(self.node), 1.0, self.node["mask"]))

    @cached_property
    def cost(self) -> Tensor:
        """The linear parts downstream of this site, summed over plates that it is not in, in batch layout."""
        plates = _plates(self.node)
        total = torch.zeros((1,) * self.log_prob.dim(), device=self.run.device)
        for one in self._downstream:
            value = self.run.batch_layout(one.part.value.detach()) * (one.weight * self.run.share(one.part.node))
            total = total + _summed_to(value, _plates(one.part.node), plates)
        for other in self._parts:
            if isinstance(other, MixedPart) and not other.mixes_particles:
                total = total + self._spread(other.values.detach(), other.weight)
        return total

    @property
    def data_dim(self) -> int | None:
        """The dim along which the costs of other data do not depend on this datum's draw; None when there is none."""
        local = self.run.is_local(self.node) and all(self.run.is_local(one.part.node) for one in self._downstream)
        return self.run.structure.data_dim if local else None

    @cached_property
    def _downstream(self) -> list[LinearPart]:
        linear = (one for one in self._parts if isinstance(one, LinearPart))
        return [one for one in linear if self._influences(one.part.node, one.part.own_draw)]

    @cached_property
    def mixed_cost(self) -> Tensor | None:
        """The parts that mix particles, in batch layout with one particle; None when there are none."""
        mixed = [self._spread(one.values.detach(), one.weight) for one in self._mixed]
        return sum(mixed[1:], start=mixed[0]) if mixed else None

    @property
    def mixed_baseline(self) -> Tensor:
        """What these parts would be without each of the particles, in batch layout; zero where that is not known."""
        total = torch.zeros((1,) * self.log_prob.dim(), device=self.run.device)
        for one in self._mixed:
            if one.without_particle is not None:
                total = total + self._spread(one.without_particle(), one.weight)
        return total

    @property
    def _mixed(self) -> list[MixedPart]:
        return [one for one in self._parts if isinstance(one, MixedPart) and one.mixes_particles]

    def _spread(self, per_datum: Tensor, weight: float | Tensor) -> Tensor:
        """A per-datum value along the data dim, or summed over the data for a global site."""
        values = per_datum * weight / self.run.batch_rows
        if not self.run.is_local(self.node):
            values = values.sum(-1, keepdim=True)
        dims = [values.shape[0]] + [1] * (self.log_prob.dim() - 1)
        dims[self.run.structure.data_dim] = values.shape[-1]
        return values.reshape(dims)

    def _influences(self, node: Node, own_draw: bool) -> bool:
        """Whether the value of a part depends on this site's draw, by itself or through other draws of the guide."""
        sources = _sources(self.run.structure, node["name"], own_draw)
        return sources is None or not sources.isdisjoint(_descendants(self.run.structure.guide_parents, self.name))

    @property
    def data_axis(self) -> int | None:
        """The dim of the data in batch layout, counted from the left; None for a global site."""
        local = self.run.is_local(self.node)
        return self.log_prob.dim() + self.run.structure.data_dim if local else None

    @property
    def inputs(self) -> Tensor:
        """The data that have a row for each datum, as one vector for each, shape (data, features)."""
        rows = self.run.batch_rows
        data = [each for each in (*self.run.args, *self.run.kwargs.values()) if isinstance(each, Tensor) and each.dim()]
        flat = [each.reshape(rows, -1).to(self.log_prob.dtype) for each in data if len(each) == rows]
        return torch.cat(flat, -1) if flat else torch.zeros(rows, 0, device=self.run.device)

    def per_datum(self, values: Tensor) -> Tensor:
        """Values in nats for each datum, shape (data,) or (particles, data), laid out and scaled as costs are."""
        return self._spread(values.reshape(-1, self.run.batch_rows), 1.0)

    def in_layout(self, value: Tensor, inner: int) -> Tensor:
        """A value with so many dims after the batch dims, in batch layout."""
        missing = self.run.structure.max_plate_nesting + 1 + inner - value.dim()
        return value.reshape((1,) * missing + tuple(value.shape))

    @property
    def objective(self) -> Tensor:
        """The linear parts of the objective as they were drawn, laid out as those of alternatives, with gradient."""
        linear, _ = _sorted(self._parts)
        return self._cost(self.run, linear)

    def alternatives(self, draws: Tensor, later: Later, gradient: bool = False) -> tuple[Tensor, Tensor]:
        r"""What other draws of this site would cost. Sites that the guide draws before this one keep their draws.

        Args:
            draws: Shape (alternatives, particles, \*batch, \*event), in batch layout.
            later: What becomes of the sites after this one.
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
            later: What becomes of the sites after this one.

        Returns:
            The parts downstream as in :attr:`cost`, and the gradient of the objective in the draw, of its shape.

        Raises:
            ProgramError: As :meth:`alternatives`.
        """
        with torch.enable_grad(), self._elsewhere(later):
            moved = draw.detach().expand(self.run.num_particles, *draw.shape[1:]).requires_grad_()
            run, linear = self._exchanged(moved.unsqueeze(0), later)
            (slope,) = torch.autograd.grad(self._cost(run, linear).sum(), moved, materialize_grads=True)
            there = SiteCosts(run, run.guide.nodes[self.name], list(linear), self._evaluate)
            return there.cost, slope

    @contextmanager
    def _elsewhere(self, later: Later) -> Iterator[None]:
        with for_gradient(), Linear() if later.is_linear else nullcontext():
            yield

    def _exchanged(self, draws: Tensor, later: Later) -> tuple[Run, list[LinearPart]]:
        """The run with other draws, and the parts of the objective on it."""
        run = run_with(self.run, self.name, draws, later)
        linear, mixed = _sorted(self._evaluate(run))
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
        summed = _summed_to(value, _plates(part.node), self._data_plate)
        return summed.expand(run.num_particles, *summed.shape[1:])

    @property
    def _after(self) -> frozenset[str]:
        """The sites of the guide whose draws depend on this one."""
        structure = self.run.structure
        known = structure.guide_parents or {name: tuple(self.run.guide.latent) for name in self.run.guide.latent}
        names = list(self.run.guide.latent)
        later = set(names[names.index(self.name) + 1 :])
        return frozenset(_descendants(known, self.name) & later)

    @property
    def _data_plate(self) -> dict[int, str]:
        structure = self.run.structure
        if structure.data_plate is None or not self.run.is_local(self.node):
            return {}
        return {structure.data_dim: structure.data_plate}


def _sorted(parts: Parts) -> tuple[list[LinearPart], list[MixedPart]]:
    linear = [part for part in parts if isinstance(part, LinearPart)]
    return linear, [part for part in parts if isinstance(part, MixedPart)]


def _plates(node: Node) -> dict[int, str]:
    return {plate.dim: plate.name for plate in plates_of(node)}


def _summed_to(value: Tensor, own: dict[int, str], plates: dict[int, str]) -> Tensor:
    """A value in batch layout summed over the plates that are not among the given ones."""
    dims = [dim for dim in range(1 - value.dim(), 0) if value.shape[dim] > 1 and plates.get(dim) != own.get(dim, "")]
    return value.sum(dims, keepdim=True) if dims else value


def _sources(structure: Structure, name: str, own_draw: bool) -> frozenset[str] | None:
    """The latent sites whose values enter a site's part directly; None when that is not known."""
    known = {site.name: site.parents for site in structure.sites}
    if name not in known or (name not in structure.guide_parents and name in _latent(structure)):
        return None
    return frozenset((*known[name], *structure.guide_parents.get(name, ()), *((name,) if own_draw else ())))


def _descendants(guide_parents: Mapping[str, tuple[str, ...]], name: str) -> frozenset[str]:
    """A site of the guide and all whose draws depend on it."""
    found = {name}
    for other, parents in guide_parents.items():  # in the order in which the guide draws
        if not found.isdisjoint(parents):
            found.add(other)
    return frozenset(found)


def _latent(structure: Structure) -> Iterable[str]:
    return (site.name for site in structure.latent)
