"""The posterior of new data under a fitted program: draws, weights, likelihoods, for any number of rows.

Convention of this module: rows are taken in chunks whose results go to the host at once; the draws do not depend on the
size of the chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro import poutine
from rich.progress import Progress, track
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.blocks import GuideBlocks, Latents
from ppl_genmodels.inference.draws import Draws
from ppl_genmodels.inference.together import draws_together, seed_of
from ppl_genmodels.objectives.run import Run, Traced
from ppl_genmodels.program import Program
from ppl_genmodels.structure import Node, Site, Structure

__all__ = ["compact", "row_axis", "sample_posterior", "variable_dims"]

MEMORY = 2**24
"""Numbers of one observed site that a chunk may hold: draws times rows times event size."""

Array = NDArray[Any]


def sample_posterior(
    program: Program,
    rows: Rows,
    num_samples: int,
    chunk_size: int | None = None,
    predictive: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Draws:
    """Draws from the guide for every row, with the model's densities at each draw.

    Args:
        program: A fitted program.
        rows: The data, of any number.
        num_samples: Draws for each row.
        chunk_size: Rows whose densities are computed together; by default what fits in some hundred megabytes.
        predictive: Whether to draw replicated observations too.
        seed: Of the draws.
        progress: Whether to show a progress bar.

    Returns:
        Draws on the host, one chain.

    Raises:
        OptionError: When a number is below 1.
        ProgramError: When the guide cannot serve these rows.
    """
    if num_samples < 1 or (chunk_size is not None and chunk_size < 1):
        raise OptionError(f"num_samples and chunk_size must be at least 1, got {num_samples} and {chunk_size}.")
    if num_samples > 1 and not draws_together(program, rows):
        draws = track(range(num_samples), "infer, one draw at a time", disable=not progress)
        seeds = (seed_of(seed, draw) for draw in draws)
        return _merged([sample_posterior(program, rows, 1, chunk_size, predictive, one) for one in seeds])
    with torch.no_grad(), torch.random.fork_rng(), Progress(disable=not progress) as bar:
        blocks = GuideBlocks(program, rows, num_samples, seed)
        chunk = (chunk_size or _affordable(blocks)) if blocks.divisible else len(rows)
        task = bar.add_task("infer", total=len(rows))
        parts = []
        for start in range(0, len(rows), chunk):
            parts.append(_part(blocks, start, min(start + chunk, len(rows)), predictive))
            bar.update(task, advance=chunk)
    return _assemble(blocks, parts)


def _merged(draws: list[Draws]) -> Draws:
    """Draws made one by one, as one chain."""

    def along_draws(group: str) -> dict[str, Array]:
        return {name: np.concatenate([getattr(d, group)[name] for d in draws], 1) for name in getattr(draws[0], group)}

    return replace(
        draws[0],
        posterior=along_draws("posterior"),
        log_likelihood=along_draws("log_likelihood"),
        sample_stats=along_draws("sample_stats"),
        posterior_predictive=along_draws("posterior_predictive"),
    )


@dataclass(frozen=True)
class _Part:
    """What is known about some of the rows, on the host; log-densities are (draws, rows) and (draws,)."""

    posterior: dict[str, Array]
    log_likelihood: dict[str, Array]
    predictive: dict[str, Array]
    observed: dict[str, Array]
    local: dict[str, Array]
    global_: dict[str, Array]


def _part(blocks: GuideBlocks, start: int, stop: int, predictive: bool) -> _Part:
    structure, draws = blocks.structure, blocks.num_samples
    latents = blocks.draw(start, stop)
    with pyro.validation_enabled(False):
        run = blocks.run(start, stop)
        model = blocks.modelled(run, poutine.condition(blocks.program.model, data=latents.values))
        local_log_p, global_log_p = _densities(run, model)
    values = {name: compact(v, structure.site(name), structure, draws) for name, v in latents.values.items()}
    for name, node in model.deterministic.items():
        values[name] = compact(node["value"], structure.site(name), structure, draws)
    observed = {
        site.name: model.nodes[site.name] for site in structure.observed if model.nodes[site.name]["is_observed"]
    }
    likelihood = {
        name: compact(run.site_log_prob(node), structure.site(name), structure, draws, event=False)
        for name, node in observed.items()
    }
    return _Part(
        posterior=_host(values),
        log_likelihood=_host(likelihood),
        predictive=_host(_replicate(blocks, latents, start, stop)) if predictive else {},
        observed={name: _observation(node, structure.site(name), structure) for name, node in observed.items()},
        local=_host({"log_p": local_log_p, "log_q": latents.local_log_q}),
        global_=_host({"log_p": global_log_p, "log_q": latents.global_log_q}),
    )


def _densities(run: Run, model: Traced) -> tuple[Tensor, Tensor]:
    """The log-densities of local sites, (draws, rows), and of global ones, (draws,)."""
    local = torch.zeros((), device=run.device)
    global_ = torch.zeros(run.num_particles, device=run.device)
    for node in model.observed:
        value = run.sum_to_datum(node, run.site_log_prob(node))
        if run.is_local(node):
            local = local + value
        else:
            global_ = global_ + value[:, 0]
    return local.expand(run.num_particles, -1) if local.dim() else local.expand(run.num_particles, 1), global_


def _replicate(blocks: GuideBlocks, latents: Latents, start: int, stop: int) -> dict[str, Tensor]:
    """Replicated observations, drawn in whole blocks so that they do not depend on the chunk."""
    structure, pieces = blocks.structure, []
    for number in range(start // blocks.block, -(-stop // blocks.block)):
        first = number * blocks.block
        last = min(first + blocks.block, len(blocks.rows))
        values = blocks.draw(first, last).values
        blocks.seeded(number, 1)
        with pyro.validation_enabled(False):
            run = blocks.run(first, last)
            model = poutine.condition(poutine.uncondition(blocks.program.model), data=values)
            nodes = blocks.modelled(run, model).nodes
        drawn = {}
        for site in structure.observed:
            value = compact(nodes[site.name]["value"], site, structure, blocks.num_samples)
            axis = row_axis(site, structure)
            if axis is not None:
                low, high = max(start - first, 0), min(stop, last) - first
                value = value.narrow(axis, low, high - low)
            drawn[site.name] = value
        pieces.append(drawn)
    return {site.name: _join([p[site.name] for p in pieces], site, structure) for site in structure.observed}


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


def _assemble(blocks: GuideBlocks, parts: list[_Part]) -> Draws:
    structure = blocks.structure

    def joined(group: str) -> dict[str, Array]:
        first = getattr(parts[0], group)
        return {
            name: _join_arrays([getattr(p, group)[name] for p in parts], structure.site(name), structure)[None]
            for name in first
        }

    observed = {
        name: _join_arrays([p.observed[name] for p in parts], structure.site(name), structure, 0)
        for name in parts[0].observed
    }
    return Draws(
        posterior=joined("posterior"),
        dims=variable_dims(structure),
        log_likelihood=joined("log_likelihood"),
        sample_stats=_weights(parts, joint=blocks.joint),
        posterior_predictive=joined("predictive"),
        observed_data=observed,
        attrs={"method": "variational inference", "data_plate": structure.data_plate or ""},
    )


def _weights(parts: list[_Part], joint: bool) -> dict[str, Array]:
    """log p, log q and the log weight: per row, or of all rows together when latent sites are shared by them."""
    stats = {}
    for name in ("log_p", "log_q"):
        value = np.concatenate([part.local[name] for part in parts], axis=1)
        if joint:
            value = value.sum(1) + parts[0].global_[name]
        stats[name] = value[None]
    stats["log_weight"] = stats["log_p"] - stats["log_q"]
    return stats


def _observation(node: Node, site: Site, structure: Structure) -> Array:
    """What was observed; NaN where it is missing."""
    value, missing = node["value"], node["infer"].get("missing")
    if missing is not None:
        value = value.masked_fill(missing, torch.nan)
    return _numpy(compact(value, site, structure, draws=1)[0])


def row_axis(site: Site, structure: Structure, leading: int = 1) -> int | None:
    """The axis of the rows in a compact value, or None for a global site."""
    if not structure.is_local(site.name):
        return None
    dims = sorted(structure.plate(name).dim for name in site.plates)
    return leading + dims.index(structure.data_dim)


def _join(pieces: list[Tensor], site: Site, structure: Structure) -> Tensor:
    axis = row_axis(site, structure)
    return pieces[0] if axis is None else torch.cat(pieces, axis)


def _join_arrays(pieces: list[Array], site: Site, structure: Structure, leading: int = 1) -> Array:
    axis = row_axis(site, structure, leading)
    return pieces[0] if axis is None else np.concatenate(pieces, axis)


def _host(values: dict[str, Tensor]) -> dict[str, Array]:
    return {name: _numpy(value) for name, value in values.items()}


def _numpy(value: Tensor) -> Array:
    """On the host; in single precision where NumPy has no such dtype."""
    return (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()


def _affordable(blocks: GuideBlocks) -> int:
    """How many rows' densities fit in memory together."""
    widest = max((site.event_shape.numel() for site in blocks.structure.observed), default=1)
    return max(1, MEMORY // (blocks.num_samples * widest))
