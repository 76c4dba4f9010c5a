"""The plan of an amortized guide: what one run of the model tells about its latent sites.

Convention of this module: sites are listed in the order in which the guide samples them, global
sites first, each kind in the model's order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import detach_provenance, get_provenance
from torch import Tensor

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.guides.dependencies import faithful_parents
from ppl_genmodels.guides.families import Family, family_of
from ppl_genmodels.guides.layout import Layout
from ppl_genmodels.probe import probe_model
from ppl_genmodels.structure import (
    Node,
    Plate,
    Site,
    Structure,
    is_delta,
    is_deterministic,
    sample_sites,
)

__all__ = ["LatentPlan", "Plan", "plan_of"]

Model = Callable[..., Any]

_PRIOR_DRAWS = 101


@dataclass(frozen=True)
class LatentPlan:
    """How the guide samples one latent site.

    Attributes:
        name: The site.
        plates: The plates around it.
        layout: Where they lie among the batch dims.
        family: The distributions it may have.
        parents: The sites that its distribution is conditioned on.
        initial: For a global site its parameters before any training, shape (*plates, parameters).
    """

    name: str
    plates: tuple[Plate, ...]
    layout: Layout
    family: Family
    parents: tuple[str, ...]
    initial: Tensor | None

    @property
    def local(self) -> bool:
        """Whether it lies inside the data plate."""
        return self.initial is None

    @property
    def width(self) -> int:
        """How many reals it adds to the input of a site that depends on it."""
        return self.layout.elements * self.family.width


@dataclass(frozen=True)
class Plan:
    """The latent sites of a model and its data plate.

    Attributes:
        sites: The latent sites in the order of sampling.
        data_plate: The plate of the data, when some latent site is inside it.
    """

    sites: tuple[LatentPlan, ...]
    data_plate: Plate | None


def plan_of(model: Model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """Reads a model's latent sites off runs on these data.

    Raises:
        ProgramError: When the model fails or has no latent site, when a site's distribution has no
            family, or when a plate other than the data plate is subsampled.
    """
    structure = probe_model(model, args, kwargs)
    if not structure.latent:
        raise ProgramError(
            "Amortized: the model has no latent sites, so there is nothing to infer. "
            "Remedy: fit the model without a guide (maximum likelihood), or pass it data "
            "so that only the sites meant as latent are unobserved."
        )
    with TrackProvenance():
        nodes = sample_sites(poutine.trace(model).get_trace(*args, **kwargs))
    local = {site.name: structure.is_local(site.name) for site in structure.latent}
    latent = sorted(structure.latent, key=lambda site: local[site.name])
    parents = faithful_parents(_direct_dependencies(nodes), [site.name for site in latent])
    sites = tuple(_plan_site(s, nodes[s.name], structure, parents[s.name]) for s in latent)
    data_plate = structure.plate(structure.data_plate) if structure.data_plate else None
    return Plan(sites, data_plate if any(local.values()) else None)


def _direct_dependencies(nodes: dict[str, Node]) -> dict[str, frozenset[str]]:
    """For each site with a density the sites that it depends on, by the density's provenance."""
    found = {}
    for name, node in nodes.items():
        if is_deterministic(node) or is_delta(node):
            continue
        try:
            found[name] = get_provenance(node["fn"].log_prob(node["value"]))
        except (ValueError, RuntimeError, NotImplementedError) as error:
            first = str(error).partition("\n")[0]
            raise ProgramError(
                f"site '{name}': its density cannot be computed at a value of shape {tuple(node['value'].shape)}: "
                f"{first}. Remedy: check the shape of the data at this site against its plates and .to_event."
            ) from error
    return found


def _plan_site(site: Site, node: Node, structure: Structure, parents: tuple[str, ...]) -> LatentPlan:
    local = structure.is_local(site.name)
    rows_dim = structure.data_dim if local else None
    plates = tuple(structure.plate(name) for name in site.plates)
    _check_whole(site, [plate for plate in plates if plate.name != structure.data_plate])
    family = family_of(node, rows_dim)
    layout = Layout.of(plates, structure.max_plate_nesting, rows_dim)
    initial = None if local else _initial(node, family, layout)
    return LatentPlan(site.name, plates, layout, family, parents if local else (), initial)


def _check_whole(site: Site, plates: list[Plate]) -> None:
    for plate in plates:
        if plate.size != plate.full_size:
            raise ProgramError(
                f"site '{site.name}': plate '{plate.name}' holds {plate.size} of {plate.full_size} elements, and an "
                f"amortized guide subsamples the data plate only. Remedy: give plate '{plate.name}' all of its "
                f"elements, or make it the outermost plate around the first observed site."
            )


def _initial(node: Node, family: Family, layout: Layout) -> Tensor:
    """Parameters before any training, from draws of the prior."""
    prior = detach_provenance(node["fn"])
    draws = detach_provenance(prior.sample(torch.Size([_PRIOR_DRAWS])))
    return family.initial_from(draws).to(draws.device).expand(*layout.sizes, -1).clone()
