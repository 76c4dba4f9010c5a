"""Data from a fitted program: samples from the prior, and reconstructions of given data.

Convention of this module: results are tensors on the host, one for each site.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference.blocks import GuideBlocks
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.replay import Groups, Replay
from ppl_genmodels.inference.site_arrays import compact, row_axis
from ppl_genmodels.inference.together import draws_together, seed_of
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.program import Program

__all__ = ["reconstruct", "sample_prior"]


def sample_prior(program: Program, num_samples: int, seed: int = 0, compile: Mode = "auto") -> dict[str, Tensor]:
    """Draws from the program run without data, vectorised.

    Args:
        program: The program.
        num_samples: How many.
        seed: Of the draws.
        compile: Whether runs are replayed from graphs, as in :func:`ppl_genmodels.fit`; the numbers are the same.

    Returns:
        For each site a tensor (num_samples, *plates, *event); a data plate that holds one datum is dropped.

    Raises:
        OptionError: When ``num_samples`` is below 1.
        ProgramError: When the model cannot run without data.
    """
    if num_samples < 1:
        raise OptionError(f"the number of samples must be at least 1, got {num_samples}.")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            prior = program.prior()
        except ProgramError as error:
            raise ProgramError(
                f"this model cannot run without data: {error} Remedy: give its data arguments the default None and "
                f"sample one datum then; or infer(data, predictive=True) for replicated data."
            ) from error
        structure, values = prior.structure(), {}
        drawn = _prior_values(prior, num_samples, compile)
    for site in structure.sites:
        value = drawn[site.name].cpu()
        plate = structure.data_plate
        if structure.is_local(site.name) and plate and structure.plate(plate).size == 1:
            value = value.squeeze(1 + sorted(site.plates, key=lambda p: structure.plate(p).dim).index(plate))
        values[site.name] = value
    return values


def _prior_values(prior: Program, num_samples: int, compile: Mode) -> dict[str, Tensor]:
    """Values (draws, *plates, *event); one draw at a time when they cannot be made together."""
    try:
        return _prior_run(prior, num_samples)
    except (RuntimeError, ValueError, IndexError, TypeError):
        if num_samples == 1:
            raise
    one = Replay(lambda *_: (_prior_run(prior, 1),), prior, "the model without data", compile, num_samples)
    single = [one((), {}, {})[0] for _ in range(num_samples)]
    return {name: torch.cat([values[name] for values in single]) for name in single[0]}


def _prior_run(prior: Program, num_samples: int) -> dict[str, Tensor]:
    with pyro.validation_enabled(False):
        run = Run(prior, (), {}, num_samples)
        traced = run.trace_particles(poutine.uncondition(prior.model))
    nodes = traced.nodes | traced.deterministic
    return {
        site.name: compact(nodes[site.name]["value"], site, run.structure, num_samples) for site in run.structure.sites
    }


def reconstruct(
    program: Program, rows: Rows, num_samples: int = 32, seed: int = 0, compile: Mode = "auto"
) -> dict[str, Tensor]:
    """The mean of each observed site given the latent values that the guide infers.

    Args:
        program: A fitted program.
        rows: The data.
        num_samples: Draws from the guide that are averaged.
        seed: Of the draws.
        compile: Whether runs are replayed from graphs, as in :func:`ppl_genmodels.fit`; the numbers are the same.

    Returns:
        For each observed site the posterior mean of its mean, shape (*plates, *event).

    Raises:
        ProgramError: When a site's distribution has no mean.
    """
    if num_samples > 1 and not draws_together(program, rows):
        made = [reconstruct(program, rows, 1, seed_of(seed, draw), compile) for draw in range(num_samples)]
        return {name: torch.stack([one[name] for one in made]).mean(0) for name in made[0]}
    blocks, found = GuideBlocks(program, rows, num_samples, seed, compile), dict[str, Tensor]()
    means = blocks.replay(lambda *inputs: _means(blocks, *inputs), "the mean", blocks.block)
    with torch.no_grad(), torch.random.fork_rng(), pyro.validation_enabled(False):
        for start in range(0, len(rows), blocks.block):
            stop = min(start + blocks.block, len(rows))
            latents = blocks.draw(start, stop)
            (of_sites,) = means(*blocks.take(start, stop), latents.values)
            for name, mean in of_sites.items():
                _put(found, blocks, name, mean.cpu(), start)
    return found


def _means(blocks: GuideBlocks, args: tuple[Any, ...], kwargs: dict[str, Any], held: Mapping[str, Tensor]) -> Groups:
    """The mean of each observed site, averaged over draws of the latent values."""
    structure, draws = blocks.structure, blocks.num_samples
    run = Run(blocks.program, args, kwargs, draws)
    nodes = blocks.modelled(run, poutine.condition(blocks.program.model, data=dict(held))).nodes
    sites = structure.observed
    return ({s.name: compact(_mean(nodes[s.name]["fn"], s.name), s, structure, draws).mean(0) for s in sites},)


def _put(found: dict[str, Tensor], blocks: GuideBlocks, name: str, mean: Tensor, start: int) -> None:
    """Puts the means of some rows where they belong."""
    axis = row_axis(blocks.structure.site(name), blocks.structure, leading=0)
    if axis is None:
        found.setdefault(name, mean)
        return
    shape = [len(blocks.rows) if i == axis else size for i, size in enumerate(mean.shape)]
    found.setdefault(name, mean.new_empty(shape)).narrow(axis, start, mean.shape[axis]).copy_(mean)


def _mean(fn: pyro.distributions.Distribution, name: str) -> Tensor:
    try:
        return fn.mean
    except NotImplementedError as error:
        raise ProgramError(
            f"site '{name}': {type(fn).__name__} has no mean, so there is no reconstruction. Remedy: "
            f"infer(data, predictive=True) draws replicated data."
        ) from error
