"""The two sides of a game at some sites: what the data and the guide say of them, and what the model draws.

Convention of this module: values have the particles and the rows in one dim, the first, shape (particles * rows,
\\*event); the first side is that of inference, the second that of generation.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, NamedTuple

from pyro.poutine.messenger import unwrap
from torch import Tensor

from ppl_genmodels.errors import ProgramError, UnknownNameError
from ppl_genmodels.objectives.run import Run, Traced

__all__ = ["Sides", "two_sides"]


class Sides(NamedTuple):
    """Values of the same sites from both sides, one tensor for each site."""

    first: list[Tensor]
    second: list[Tensor]


def two_sides(run: Run, sites: tuple[str, ...], where: str) -> Sides:
    """The values of sites in inference and in generation.

    In inference a site has the value that the guide gives it, or else that of the model's argument of the same name, or
    else that which it is observed with. In generation it is drawn by the model without data; what is no site of the
    model, such as a label that it is given, is the same argument on both sides.

    Args:
        run: The run.
        sites: Names of sites, or of arguments.
        where: The call that asks, for messages.

    Raises:
        UnknownNameError: When there is no site and no argument of a name.
        ProgramError: When a site is not in the plate of the data, or all of them are only arguments.
    """
    given = arguments(run)
    drawn = _values(run.prior)
    if not any(name in drawn for name in sites):
        raise UnknownNameError("site", next(iter(sites), ""), drawn, f"of the model, in {where}")
    first = [_inferred(run, name, given, where) for name in sites]
    second = [drawn[name] if name in drawn else given[name] for name in sites]
    pairs = [
        [_rows(run, name, value, where) for name, value in zip(sites, side, strict=True)] for side in (first, second)
    ]
    return Sides(*pairs)


def arguments(run: Run) -> dict[str, Tensor]:
    """The data of a run by the names of the model's arguments."""
    model = run.program._model
    inner = model if type(model) is partial else unwrap(model)  # a user's partial is none of a handler's
    try:
        bound = inspect.signature(inner).bind(*run.args, **run.kwargs).arguments
    except (TypeError, ValueError):
        bound = run.kwargs
    return {name: value for name, value in bound.items() if isinstance(value, Tensor)}


def _values(traced: Traced) -> dict[str, Tensor]:
    return {name: node["value"] for name, node in {**traced.nodes, **traced.deterministic}.items()}


def _inferred(run: Run, name: str, given: dict[str, Tensor], where: str) -> Tensor:
    guided = _values(run.guide)
    if name in guided:
        return guided[name]
    if name in given:
        return given[name]
    observed = {node["name"]: node["value"] for node in run.model.observed}
    if name in observed:
        return observed[name]
    raise UnknownNameError("site", name, {**guided, **given, **observed}, f"of the guide or the data, in {where}")


def _rows(run: Run, name: str, value: Any, where: str) -> Tensor:
    particles, rows = run.num_particles, run.batch_rows
    if particles > 1 and value.shape[:2] == (particles, rows):
        return value.flatten(0, 1)
    if value.shape[:1] != (rows,):
        raise ProgramError(
            f"{where}: '{name}' has shape {tuple(value.shape)}, expected one value for each of the {rows} rows of the "
            f"data. Remedy: put the site into the plate of the data alone."
        )
    return value if particles == 1 else value.expand(particles, *value.shape).flatten(0, 1)
