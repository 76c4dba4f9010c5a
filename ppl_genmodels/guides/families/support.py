"""Supports that hold for every datum: bounds read off one run, refused when not constant.

Convention of this module: a support is a ``torch.distributions`` constraint; its bounds have the
batch dims of the site followed by its event dims.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance, get_provenance
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint

from ppl_genmodels.errors import ProgramError

__all__ = ["base_support", "constant_support", "is_real", "to_device"]


def base_support(support: Constraint) -> Constraint:
    """The support of one coordinate: what ``.to_event`` and mixtures wrap.

    Example:
        >>> base_support(constraints.real_vector)
        Real()
    """
    while isinstance(support, constraints.independent | MixtureSameFamilyConstraint):
        support = support.base_constraint
    return support


def is_real(support: Constraint) -> bool:
    """Whether every real value of the right shape belongs to the support.

    Example:
        >>> is_real(constraints.real_vector), is_real(constraints.positive)
        (True, False)
    """
    return isinstance(base_support(support), type(constraints.real))


def constant_support(site: str, support: Constraint, data_dim: int | None) -> Constraint:
    """The support with constant bounds: numbers where all are equal, else tensors without rows.

    Args:
        site: Name of the site, for messages.
        support: The support at one run, whose tensors may carry provenance.
        data_dim: The rows' dim in the bounds, counted from the right; None for a site that has no
            rows.

    Raises:
        ProgramError: When a bound depends on another latent site, or differs between data.

    Example:
        >>> bounds = torch.zeros(4), torch.tensor([2.0, 2.0, 2.0, 2.0])
        >>> constant_support("z", constraints.interval(*bounds), -1)
        Interval(lower_bound=0.0, upper_bound=2.0)
    """
    if isinstance(support, MixtureSameFamilyConstraint):
        support = support.base_constraint
    return _map_tensors(support, lambda bound: _constant(site, bound, data_dim))


def to_device(support: Constraint, device: torch.device) -> Constraint:
    """The support with its tensors on a device."""
    return _map_tensors(support, lambda bound: bound.to(device))


def _constant(site: str, bound: Tensor, data_dim: int | None) -> Any:
    upstream = sorted(get_provenance(bound))
    if upstream:
        raise ProgramError(
            f"site '{site}': its support depends on {', '.join(map(repr, upstream))}, and an amortized guide "
            f"needs one that is fixed. Remedy: sample a site on a fixed support and transform it, such as "
            f'u = pyro.sample("u", Uniform(0, 1)); {site} = pyro.deterministic("{site}", upper * u).'
        )
    bound = detach_provenance(bound).detach()
    first = bound.reshape(-1)[0]
    if (bound == first).all():
        return first.item()
    if data_dim is not None and bound.dim() >= -data_dim and bound.shape[data_dim] > 1:
        rows, bound = bound, bound.narrow(data_dim, 0, 1)
        if not (rows == bound).all():
            raise ProgramError(
                f"site '{site}': its support differs between data, and an amortized guide needs one that is the "
                f"same for all. Remedy: sample a site on a fixed support and scale it by the data."
            )
    return bound


def _map_tensors(support: Constraint, function: Callable[[Tensor], Any]) -> Constraint:
    """A copy of the support with every tensor in it replaced, nested supports included."""
    if not any(isinstance(value, Tensor | Constraint | list) for value in vars(support).values()):
        return support
    mapped = copy.copy(support)
    for name, value in vars(support).items():
        if isinstance(value, Tensor):
            setattr(mapped, name, function(value))
        elif isinstance(value, Constraint):
            setattr(mapped, name, _map_tensors(value, function))
        elif isinstance(value, list):
            parts = [_map_tensors(v, function) if isinstance(v, Constraint) else v for v in value]
            setattr(mapped, name, parts)
    return mapped
