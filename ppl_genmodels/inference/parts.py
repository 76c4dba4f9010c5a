"""What is known about some of the rows at some of the draws: values, densities, replicated observations.

Convention of this module: arrays are compact and on the host; what has a row axis holds the part's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ppl_genmodels.inference.blocks import GuideBlocks
from ppl_genmodels.inference.latents import Latents
from ppl_genmodels.inference.replay import Groups
from ppl_genmodels.inference.site_arrays import Array, compact, host, row_axis
from ppl_genmodels.objectives.run import Run, Traced
from ppl_genmodels.structure import Node, Site, Structure

__all__ = ["Part", "Parts"]


@dataclass(frozen=True)
class Part:
    """What is known about some rows.

    Attributes:
        posterior: Latent and deterministic sites, (draws, *plates, *event).
        log_likelihood: Of observed sites, (draws, *plates).
        posterior_predictive: Replicated observations, (draws, *plates, *event); empty unless asked for.
        observed_data: The observations, (*plates, *event).
        local: ``log_p`` and ``log_q`` of the sites of each row, (draws, rows).
        shared: The same of global sites, (draws,); part of the weight of all rows together, once.
    """

    posterior: dict[str, Array]
    log_likelihood: dict[str, Array]
    posterior_predictive: dict[str, Array]
    observed_data: dict[str, Array]
    local: dict[str, Array]
    shared: dict[str, Array]


class Parts:
    """The model of a program on the draws of its guide, some rows at a time.

    Args:
        blocks: The guide.
        size: Rows in a part.
        predictive: Whether to draw replicated observations too.
    """

    def __init__(self, blocks: GuideBlocks, size: int, predictive: bool) -> None:
        self.predictive = predictive
        self._model = blocks.replay(lambda *inputs: _modelled(blocks, *inputs), "the model", size)
        self._replicate = blocks.replay(
            lambda *inputs: _replicated(blocks, *inputs), "the model without its observations", blocks.block
        )

    def part(self, blocks: GuideBlocks, start: int, stop: int) -> Part:
        """What is known about some rows.

        Args:
            blocks: The guide, possibly reseeded.
            start: The first row.
            stop: The one after the last.

        Raises:
            ProgramError: When guide or model cannot serve these rows.
        """
        whole = blocks.whole(start, stop)
        latents = blocks.cut(whole, start, stop)
        with pyro.validation_enabled(False):
            values, likelihood, observed, local, shared = self._model(*blocks.take(start, stop), latents.values)
            predictive = self._predictions(blocks, whole, start, stop) if self.predictive else {}
        return Part(
            posterior=_arrays(values),
            log_likelihood=_arrays(likelihood),
            posterior_predictive=_arrays(predictive),
            observed_data=_arrays(observed),
            local=_arrays(local | {"log_q": latents.local_log_q}),
            shared=_arrays(shared | {"log_q": latents.global_log_q}),
        )

    def _predictions(self, blocks: GuideBlocks, whole: dict[int, Latents], start: int, stop: int) -> dict[str, Tensor]:
        """Replicated observations, drawn in whole blocks so that they do not depend on the part."""
        structure, pieces = blocks.structure, []
        for number, latents in whole.items():
            first, last = blocks.bounds(number)
            blocks.seeded(number, 1)
            (drawn,) = self._replicate(*blocks.take(first, last), latents.values)
            low, high = max(start, first) - first, min(stop, last) - first
            pieces.append({name: _narrowed(v, structure.site(name), structure, low, high) for name, v in drawn.items()})
        return {site.name: _join([p[site.name] for p in pieces], site, structure) for site in structure.observed}


def _modelled(blocks: GuideBlocks, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]) -> Groups:
    """Values, likelihoods, observations, and the summed log-densities of local and of global sites."""
    structure, draws = blocks.structure, blocks.num_samples
    run = Run(blocks.program, args, kwargs, draws)
    model = blocks.modelled(run, poutine.condition(blocks.program.model, data=dict(held)))
    local, shared = _densities(run, model)
    values = dict(held) | {name: node["value"] for name, node in model.deterministic.items()}
    observed = {
        site.name: model.nodes[site.name] for site in structure.observed if model.nodes[site.name]["is_observed"]
    }
    likelihood = {
        name: compact(run.site_log_prob(node), structure.site(name), structure, draws, event=False)
        for name, node in observed.items()
    }
    return (
        {name: compact(value, structure.site(name), structure, draws) for name, value in values.items()},
        likelihood,
        {name: _observation(node, structure.site(name), structure) for name, node in observed.items()},
        {"log_p": local},
        {"log_p": shared},
    )


def _replicated(
    blocks: GuideBlocks, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]
) -> Groups:
    """Observations drawn anew, given the latent values."""
    structure = blocks.structure
    run = Run(blocks.program, args, kwargs, blocks.num_samples)
    model = poutine.condition(poutine.uncondition(blocks.program.model), data=dict(held))
    nodes = blocks.modelled(run, model).nodes
    return ({s.name: compact(nodes[s.name]["value"], s, structure, blocks.num_samples) for s in structure.observed},)


def _densities(run: Run, model: Traced) -> tuple[Tensor, Tensor]:
    """The log-densities of local sites, (draws, rows), and of global ones, (draws,)."""
    local = torch.zeros((), device=run.device)
    shared = torch.zeros(run.num_particles, device=run.device)
    for node in model.observed:
        value = run.sum_to_datum(node, run.site_log_prob(node))
        if run.is_local(node):
            local = local + value
        else:
            shared = shared + value[:, 0]
    return local.expand(run.num_particles, -1) if local.dim() else local.expand(run.num_particles, 1), shared


def _observation(node: Node, site: Site, structure: Structure) -> Tensor:
    """What was observed; NaN where it is missing."""
    value, missing = node["value"], node["infer"].get("missing")
    if missing is not None:
        value = value.masked_fill(missing, torch.nan)
    return compact(value, site, structure, draws=1)[0]


def _narrowed(value: Tensor, site: Site, structure: Structure, low: int, high: int) -> Tensor:
    axis = row_axis(site, structure)
    return value if axis is None else value.narrow(axis, low, high - low)


def _join(pieces: list[Tensor], site: Site, structure: Structure) -> Tensor:
    axis = row_axis(site, structure)
    return pieces[0] if axis is None else torch.cat(pieces, axis)


def _arrays(values: dict[str, Tensor]) -> dict[str, Array]:
    return {name: host(value) for name, value in values.items()}
