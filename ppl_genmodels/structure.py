"""What a program contains: its sites, its plates, and which sites are local to a datum.

Convention of this module: the data plate is the outermost plate around the first observed site (or, when nothing
is observed, around the first site in a plate). Sites inside it are local, all others global.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.distributions import Delta, Unit
from pyro.poutine.subsample_messenger import _Subsample

from ppl_genmodels.errors import UnknownNameError

__all__ = ["PARTICLES", "Node", "Plate", "Site", "Structure", "plates_of", "sample_sites"]

PARTICLES = "_particles"
"""Name of the plate of particles, to the left of every plate of the program."""

Node = Any
"""One sample site of a Pyro trace."""


@dataclass(frozen=True)
class Plate:
    """A plate: independent repetitions along one batch dim.

    Attributes:
        name: Its name, which names a dim of the posterior.
        dim: Its batch dim, counted from the right: -1 for the outermost.
        size: How many repetitions a run holds.
        full_size: How many there are in all; larger than ``size`` when subsampled.
    """

    name: str
    dim: int
    size: int
    full_size: int


@dataclass(frozen=True)
class Site:
    """A sample site or a deterministic site of a model.

    Attributes:
        name: Its name.
        kind: Whether it is latent, observed, or a deterministic function of others.
        distribution: Name of its distribution's class.
        plates: Names of the plates around it, leftmost batch dim first.
        batch_shape: Shape of its log-density.
        event_shape: Shape of one draw.
        discrete: Whether its support is discrete.
        parents: Names of the sites that its distribution depends on directly.
    """

    name: str
    kind: Literal["latent", "observed", "deterministic"]
    distribution: str
    plates: tuple[str, ...]
    batch_shape: torch.Size
    event_shape: torch.Size
    discrete: bool
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Structure:
    """The sites and plates of a model, in the order in which it visits them.

    Attributes:
        sites: The sites.
        plates: The plates.
        data_plate: Name of the data plate, or None.
        max_plate_nesting: How many batch dims the plates take.
        guide_parents: For each site of the guide the names of those that its distribution depends on directly; empty
            when that could not be found out.

    Example:
        >>> Structure((), (), None, 0).latent
        ()
    """

    sites: tuple[Site, ...]
    plates: tuple[Plate, ...]
    data_plate: str | None
    max_plate_nesting: int
    guide_parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def latent(self) -> tuple[Site, ...]:
        """The latent sites."""
        return tuple(site for site in self.sites if site.kind == "latent")

    @property
    def observed(self) -> tuple[Site, ...]:
        """The observed sites."""
        return tuple(site for site in self.sites if site.kind == "observed")

    @property
    def generated(self) -> tuple[Site, ...]:
        """Deterministic sites of each datum, the last first, of a program that observes nothing, such as a GAN."""
        sites = () if self.observed else self.sites[::-1]
        return tuple(site for site in sites if site.kind == "deterministic" and self.is_local(site.name))

    def site(self, name: str) -> Site:
        """The site of that name.

        Raises:
            UnknownNameError: When there is none.
        """
        for site in self.sites:
            if site.name == name:
                return site
        raise UnknownNameError("site", name, [site.name for site in self.sites])

    def plate(self, name: str) -> Plate:
        """The plate of that name.

        Raises:
            UnknownNameError: When there is none.
        """
        for plate in self.plates:
            if plate.name == name:
                return plate
        raise UnknownNameError("plate", name, [plate.name for plate in self.plates])

    def is_local(self, name: str) -> bool:
        """Whether the site lies inside the data plate."""
        return self.data_plate is not None and self.data_plate in self.site(name).plates

    @property
    def data_dim(self) -> int:
        """The data plate's batch dim, or -1 without a data plate."""
        return -1 if self.data_plate is None else self.plate(self.data_plate).dim

    @property
    def has_globals(self) -> bool:
        """Whether some latent site lies outside the data plate."""
        return any(not self.is_local(site.name) for site in self.latent)


def sample_sites(trace: poutine.Trace) -> dict[str, Node]:
    """The sample sites of a trace by name, in order, without plates' subsampling statements."""
    return {
        name: node
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not isinstance(node["fn"], _Subsample)
    }


def is_deterministic(node: Node) -> bool:
    """Whether the node was made by ``pyro.deterministic``, or by a strategy of :func:`pyro.poutine.reparam`."""
    reparameterized = node["is_observed"] and is_delta(node) and getattr(node["fn"], "_mask", None) is False
    return reparameterized or bool(node["infer"].get("_deterministic", False))


def is_factor(node: Node) -> bool:
    """Whether the node was made by ``pyro.factor``."""
    fn = node["fn"]
    return isinstance(getattr(fn, "base_dist", fn), Unit)


def is_delta(node: Node) -> bool:
    """Whether the node's distribution is a point mass."""
    fn = node["fn"]
    return isinstance(getattr(fn, "base_dist", fn), Delta)


def plates_of(node: Node) -> tuple[Plate, ...]:
    """The vectorised plates around a node, leftmost dim first, without the plate of particles."""
    frames = [f for f in node["cond_indep_stack"] if f.vectorized and f.name != PARTICLES]
    frames.sort(key=lambda frame: frame.dim)
    return tuple(Plate(f.name, f.dim, f.size, f.full_size or f.size) for f in frames)


def outermost_plate(nodes: Iterable[Node]) -> str | None:
    """Name of the first-entered plate around the first of the nodes that is in a plate."""
    for node in nodes:
        for frame in node["cond_indep_stack"]:
            if frame.vectorized and frame.name != PARTICLES:
                return str(frame.name)
    return None
