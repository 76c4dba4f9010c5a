"""Sites whose distribution is an energy, found behind what plates and handlers put around it.

Convention of this module: values of a site are taken as data; no gradient passes them to a guide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_genmodels.distributions import Energy
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.structure import Node

__all__ = ["chosen_sites", "data_of", "energy_of", "has_energy", "scaled"]


def has_energy(fn: Any) -> bool:
    """Whether there is an energy in a distribution.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> energy = Energy(lambda x: x.square().sum(-1), (2,))
        >>> has_energy(energy.expand([3]).mask(False).to_event(1)), has_energy(dist.Normal(0.0, 1.0))
        (True, False)
    """
    return isinstance(fn, Energy) or (hasattr(fn, "base_dist") and has_energy(fn.base_dist))


def energy_of(fn: Any) -> Energy:
    """The energy in a distribution that has one."""
    return fn if isinstance(fn, Energy) else energy_of(fn.base_dist)


def chosen_sites(run: Run, sites: tuple[str, ...], where: str, fits: Callable[[Any], bool], what: str) -> list[Node]:
    """The model's sites of those names, or without names all whose distribution fits.

    Args:
        run: The run.
        sites: The names.
        where: The call that asks, for messages.
        fits: Of a distribution, whether it serves.
        what: What it should be, for messages.

    Raises:
        UnknownNameError: When there is no site of a name.
        ProgramError: When a named site does not fit, or none does.
    """
    nodes = run.select(run.model.nodes, sites, where)
    found = [node for node in nodes if fits(node["fn"])]
    missed = [node["name"] for node in nodes if not fits(node["fn"])] if sites else []
    if missed or not found:
        named = f"the distribution of site '{missed[0]}' is" if missed else "no site's distribution is"
        raise ProgramError(f"{where}: {named} {'not ' if missed else ''}{what}.")
    return found


def data_of(node: Node) -> Tensor:
    """A site's value, of its distribution's batch and event shape, without gradient."""
    fn = node["fn"]
    return node["value"].detach().expand(fn.batch_shape + fn.event_shape)


def scaled(node: Node, value: Tensor) -> Tensor:
    """A value of a site's batch shape, scaled and masked as the site is."""
    return scale_and_mask(value, node["scale"], node["mask"])
