"""Reading a program's structure by running it once.

Convention of this module: functions run under the caller's settings (no gradients, validation on) and turn what
goes wrong into a :class:`~ppl_genmodels.errors.ProgramError` that names the last site reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine

from ppl_genmodels.errors import PplError, ProgramError, nearest
from ppl_genmodels.provenance import parents_of
from ppl_genmodels.structure import (
    Node,
    Plate,
    Site,
    Structure,
    is_deterministic,
    is_factor,
    outermost_plate,
    plates_of,
    sample_sites,
)

__all__ = ["check_guide", "describe_data", "probe_guide", "probe_model"]


def probe_model(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Structure:
    """The structure of a model on these data.

    Raises:
        ProgramError: When the model fails; the message names the last site reached.
    """
    nodes = sample_sites(_trace("model", model, args, kwargs))
    plates: dict[str, Plate] = {p.name: p for node in nodes.values() for p in plates_of(node)}
    observed = [n for n in nodes.values() if n["is_observed"] and not is_deterministic(n)]
    data_plate = outermost_plate(observed) or outermost_plate(nodes.values())
    nesting = max((-plate.dim for plate in plates.values()), default=0)
    parents = parents_of(model, args, kwargs) or _all_before(nodes)
    sites = tuple(_site(node, parents.get(name, ())) for name, node in nodes.items() if not is_factor(node))
    return Structure(sites, tuple(plates.values()), data_plate, nesting)


def probe_guide(guide: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Node]:
    """The guide's latent sites by name, auxiliary ones left out.

    Raises:
        ProgramError: When the guide fails.
    """
    if guide is None:
        return {}
    nodes = sample_sites(_trace("guide", guide, args, kwargs))
    return {
        name: node for name, node in nodes.items() if not node["is_observed"] and not node["infer"].get("is_auxiliary")
    }


def check_guide(structure: Structure, guide_sites: dict[str, Node], has_guide: bool) -> None:
    """Checks that the guide samples the model's latent sites, all of them and no other.

    Raises:
        ProgramError: When it does not; the message names the sites and the nearest names.
    """
    latent = {site.name: site for site in structure.latent}
    missing = [name for name in latent if name not in guide_sites]
    added = [name for name in guide_sites if name not in latent]
    if missing and not has_guide:
        raise ProgramError(
            f"the model has latent sites {_quoted(missing)} and there is no guide. Remedy: add a guide method, "
            f"or pass (model, guides.Amortized(model, encoder)) or (model, guides.AutoNormal(model))."
        )
    if missing:
        close = nearest(missing[0], added)
        hint = f" It samples {close[0]!r}: is that the same site?" if close else ""
        raise ProgramError(
            f"the guide misses {_quoted(missing)}, latent in the model.{hint} Remedy: add "
            f'pyro.sample("{missing[0]}", ...) to the guide.'
        )
    if added:
        raise ProgramError(
            f"the guide samples {_quoted(added)}, which the model has not as latent sites "
            f"({_quoted(latent)}). Remedy: remove it, rename it, or mark it with infer={{'is_auxiliary': True}}."
        )
    for name, node in guide_sites.items():
        _check_shape(latent[name], node)


def describe_data(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The shapes and dtypes of data, for messages."""
    named = [(f"argument {i + 1}", value) for i, value in enumerate(args)] + list(kwargs.items())
    return ", ".join(f"{name} {_shape(value)}" for name, value in named) or "no data"


def _all_before(nodes: dict[str, Node]) -> dict[str, tuple[str, ...]]:
    """For each site all before it, where it is not known which of them it depends on."""
    names = list(nodes)
    return {name: tuple(names[:number]) for number, name in enumerate(names)}


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    return type(value).__name__


def _trace(role: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> poutine.Trace:
    tracer = poutine.trace()
    try:
        with tracer:
            fn(*args, **kwargs)
    except PplError:
        raise
    except (ValueError, RuntimeError, TypeError, IndexError, NotImplementedError) as error:
        reached = [name for name in tracer.trace.nodes if not name.startswith("_")]
        where = f"after site '{reached[-1]}'" if reached else "before its first site"
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ProgramError(
            f"the {role} failed {where}, run on {describe_data(args, kwargs)}: {first}. Remedy: check the "
            f"shapes and values of the data against what the {role} expects at its next site."
        ) from error
    return tracer.trace


def _site(node: Node, parents: tuple[str, ...]) -> Site:
    fn, plates = node["fn"], plates_of(node)
    names = tuple(plate.name for plate in plates)
    if is_deterministic(node):
        depth = max((-plate.dim for plate in plates), default=0)
        batch, event = node["value"].shape[:depth], node["value"].shape[depth:]
        return Site(node["name"], "deterministic", "Deterministic", names, batch, event, False, parents)
    return Site(
        name=node["name"],
        kind="observed" if node["is_observed"] else "latent",
        distribution=_distribution_name(fn),
        plates=names,
        batch_shape=fn.batch_shape,
        event_shape=fn.event_shape,
        discrete=fn.support.is_discrete,
        parents=parents,
    )


def _distribution_name(fn: Any) -> str:
    while True:
        inner = getattr(fn, "base_dist", None)
        if type(fn).__name__ not in ("Independent", "MaskedDistribution", "ExpandedDistribution"):
            return type(fn).__name__
        fn = inner


def _check_shape(site: Site, node: Node) -> None:
    received = tuple(node["value"].shape)
    expected = tuple(site.batch_shape + site.event_shape)
    if received != expected:
        raise ProgramError(
            f"site '{site.name}' has shape {received} in the guide and {expected} in the model (plates "
            f"{', '.join(site.plates) or 'none'}, event {tuple(site.event_shape)}). Remedy: give the guide's "
            f"distribution the same plates and .to_event as the model's; a guide whose parameters have one row per "
            f"datum cannot serve another number of rows (guides.Amortized can)."
        )


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
