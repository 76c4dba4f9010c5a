"""What the draw of a site costs: the parts of an objective that it has an influence on.

Convention of this module: a tensor in batch layout has one dim for the particles and one for each plate dim of the
run, of size 1 where it is not repeated. Costs are what is maximised.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_genmodels.objectives.parts import (
    LinearPart,
    MixedPart,
    Parts,
    descendants,
    plate_dims,
    sources_of,
    summed_to,
)
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.structure import Node

__all__ = ["SiteCosts"]


class SiteCosts:
    """A latent site of the guide, its draw, and what the draw costs.

    Args:
        run: The run.
        node: The site's node in the guide's trace.
        parts: The parts of the objective.
        evaluate: The objective's parts on another run.
    """

    def __init__(self, run: Run, node: Node, parts: Parts, evaluate: Callable[[Run], Parts]) -> None:
        self.run, self.node, self.parts, self.evaluate = run, node, parts, evaluate
        self.name, self.fn, self.value = node["name"], node["fn"], node["value"]

    @cached_property
    def log_prob(self) -> Tensor:
        """The log-density of the draw, masked and not scaled, in batch layout, with gradient."""
        return self.run.batch_layout(scale_and_mask(self.run.raw_log_prob(self.node), 1.0, self.node["mask"]))

    @cached_property
    def cost(self) -> Tensor:
        """The linear parts downstream of this site, summed over plates that it is not in, in batch layout."""
        plates = plate_dims(self.node)
        total = torch.zeros((1,) * self.log_prob.dim(), device=self.run.device)
        for one in self._downstream:
            value = self.run.batch_layout(one.part.value.detach()) * (one.weight * self.run.share(one.part.node))
            total = total + summed_to(value, plate_dims(one.part.node), plates)
        for other in self.parts:
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
        linear = (one for one in self.parts if isinstance(one, LinearPart))
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
        return [one for one in self.parts if isinstance(one, MixedPart) and one.mixes_particles]

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
        sources = sources_of(self.run.structure, node["name"], own_draw)
        return sources is None or not sources.isdisjoint(descendants(self.run.structure.guide_parents, self.name))

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

    @property
    def share(self) -> float:
        """What a nat of one datum counts in costs; a nat of the objective for a global site."""
        return 1.0 / self.run.batch_rows if self.run.is_local(self.node) else 1.0

    def per_datum(self, values: Tensor) -> Tensor:
        """Values in nats for each datum, shape (data,) or (particles, data), laid out and scaled as costs are."""
        return self._spread(values.reshape(-1, self.run.batch_rows), 1.0)

    def in_layout(self, value: Tensor, inner: int) -> Tensor:
        """A value with so many dims after the batch dims, in batch layout."""
        missing = self.run.structure.max_plate_nesting + 1 + inner - value.dim()
        return value.reshape((1,) * missing + tuple(value.shape))
