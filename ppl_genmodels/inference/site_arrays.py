"""The arrays of sites as a reader wants them: plates that are there, in order, and nothing else.

Convention of this module: a compact value has the shape (draws, *plates, *event), plates leftmost batch dim first.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor, bfloat16

from ppl_genmodels.structure import Site, Structure

__all__ = ["Array", "compact", "dim_sizes", "host", "row_axis", "variable_dims"]

Array = NDArray[Any]


def compact(value: Tensor, site: Site, structure: Structure, draws: int, event: bool = True) -> Tensor:
    """A value of a run as (draws, *plates, *event): the batch dims that belong to no plate of the site removed.

    Args:
        value: Shape (draws, *batch, *event), where missing leading dims stand for constants.
        site: The site.
        structure: The program's structure.
        draws: Number of draws.
        event: Whether the value has the site's event dims; a log-density has none.
    """
    event_dim = len(site.event_shape) if event else 0
    batch_dim = structure.max_plate_nesting + 1
    value = value.reshape((1,) * (batch_dim + event_dim - value.dim()) + tuple(value.shape))
    value = value.expand(draws, *value.shape[1:])
    dims = sorted(structure.plate(name).dim for name in site.plates)
    sizes = [value.shape[dim - event_dim] for dim in dims]
    return value.reshape(draws, *sizes, *value.shape[value.dim() - event_dim :])


def variable_dims(structure: Structure) -> dict[str, tuple[str, ...]]:
    """For each site the names of its dims after (chain, draw): its plates, then one for each event dim."""
    return {
        site.name: (*site.plates, *(f"{site.name}_dim_{i}" for i in range(len(site.event_shape))))
        for site in structure.sites
    }


def dim_sizes(structure: Structure, rows: int) -> dict[str, int]:
    """How long each of these dims is, with so many rows in the data plate."""
    sizes = {plate.name: plate.size for plate in structure.plates}
    if structure.data_plate is not None:
        sizes[structure.data_plate] = rows
    return sizes | {f"{site.name}_dim_{i}": size for site in structure.sites for i, size in enumerate(site.event_shape)}


def row_axis(site: Site, structure: Structure, leading: int = 1) -> int | None:
    """The axis of the rows in a compact value, or None for a global site."""
    if not structure.is_local(site.name):
        return None
    dims = sorted(structure.plate(name).dim for name in site.plates)
    return leading + dims.index(structure.data_dim)


def host(value: Tensor) -> Array:
    """On the host; in single precision where NumPy has no such dtype."""
    return (value.float() if value.dtype == bfloat16 else value).cpu().numpy()
