"""The parts of an objective, site by site, and which draws of the guide they depend on.

Convention of this module: values have the scale of the run that they are from; what is maximised counts positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ppl_genmodels.objectives.run import Part
from ppl_genmodels.structure import Node, Structure, plates_of

__all__ = ["LinearPart", "MixedPart", "Parts", "descendants", "plate_dims", "sorted_parts", "sources_of", "summed_to"]


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


def sorted_parts(parts: Parts) -> tuple[list[LinearPart], list[MixedPart]]:
    """The parts of either kind."""
    linear = [part for part in parts if isinstance(part, LinearPart)]
    return linear, [part for part in parts if isinstance(part, MixedPart)]


def plate_dims(node: Node) -> dict[int, str]:
    """The plates around a site by their dims."""
    return {plate.dim: plate.name for plate in plates_of(node)}


def summed_to(value: Tensor, own: dict[int, str], plates: dict[int, str]) -> Tensor:
    """A value in batch layout summed over the plates that are not among the given ones."""
    dims = [dim for dim in range(1 - value.dim(), 0) if value.shape[dim] > 1 and plates.get(dim) != own.get(dim, "")]
    return value.sum(dims, keepdim=True) if dims else value


def sources_of(structure: Structure, name: str, own_draw: bool) -> frozenset[str] | None:
    """The latent sites whose values enter a site's part directly; None when that is not known."""
    known = {site.name: site.parents for site in structure.sites}
    if name not in known or (name not in structure.guide_parents and name in _latent(structure)):
        return None
    return frozenset((*known[name], *structure.guide_parents.get(name, ()), *((name,) if own_draw else ())))


def descendants(guide_parents: Mapping[str, tuple[str, ...]], name: str) -> frozenset[str]:
    """A site of the guide and all whose draws depend on it."""
    found = {name}
    for other, parents in guide_parents.items():  # in the order in which the guide draws
        if not found.isdisjoint(parents):
            found.add(other)
    return frozenset(found)


def _latent(structure: Structure) -> Iterable[str]:
    return (site.name for site in structure.latent)
