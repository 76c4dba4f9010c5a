"""Data from a fitted program: samples from the prior, and reconstructions of given data.

Convention of this module: results are tensors on the host, one for each site.
"""

from __future__ import annotations

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference.blocks import GuideBlocks
from ppl_genmodels.inference.posterior import compact, row_axis
from ppl_genmodels.inference.together import draws_together, seed_of
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.program import Program

__all__ = ["reconstruct", "sample_prior"]


def sample_prior(program: Program, num_samples: int, seed: int = 0) -> dict[str, Tensor]:
    """Draws from the program run without data, vectorised.

    Args:
        program: The program.
        num_samples: How many.
        seed: Of the draws.

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
        drawn = _prior_values(prior, num_samples)
    for site in structure.sites:
        value = drawn[site.name].cpu()
        plate = structure.data_plate
        if structure.is_local(site.name) and plate and structure.plate(plate).size == 1:
            value = value.squeeze(1 + sorted(site.plates, key=lambda p: structure.plate(p).dim).index(plate))
        values[site.name] = value
    return values


def _prior_values(prior: Program, num_samples: int) -> dict[str, Tensor]:
    """Values of every site, (num_samples, *plates, *event); one draw at a time when they cannot be made together."""
    try:
        with pyro.validation_enabled(False):
            run = Run(prior, (), {}, num_samples)
            traced = run.trace_particles(poutine.uncondition(prior.model))
    except (RuntimeError, ValueError, IndexError, TypeError):
        if num_samples == 1:
            raise
        single = [_prior_values(prior, 1) for _ in range(num_samples)]
        return {name: torch.cat([values[name] for values in single]) for name in single[0]}
    nodes = traced.nodes | traced.deterministic
    return {
        site.name: compact(nodes[site.name]["value"], site, run.structure, num_samples) for site in run.structure.sites
    }


def reconstruct(program: Program, rows: Rows, num_samples: int = 32, seed: int = 0) -> dict[str, Tensor]:
    """The mean of each observed site given the latent values that the guide infers.

    Args:
        program: A fitted program.
        rows: The data.
        num_samples: Draws from the guide that are averaged.
        seed: Of the draws.

    Returns:
        For each observed site the posterior mean of its mean, shape (*plates, *event).

    Raises:
        ProgramError: When a site's distribution has no mean.
    """
    if num_samples > 1 and not draws_together(program, rows):
        made = [reconstruct(program, rows, 1, seed_of(seed, draw)) for draw in range(num_samples)]
        return {name: torch.stack([one[name] for one in made]).mean(0) for name in made[0]}
    blocks = GuideBlocks(program, rows, num_samples, seed)
    parts: dict[str, list[Tensor]] = {site.name: [] for site in blocks.structure.observed}
    with torch.no_grad(), torch.random.fork_rng(), pyro.validation_enabled(False):
        for start in range(0, len(rows), blocks.block):
            stop = min(start + blocks.block, len(rows))
            latents = blocks.draw(start, stop)
            run = blocks.run(start, stop)
            model = blocks.modelled(run, poutine.condition(program.model, data=latents.values))
            for site in blocks.structure.observed:
                mean = _mean(model.nodes[site.name]["fn"], site.name)
                parts[site.name].append(compact(mean, site, blocks.structure, num_samples).mean(0).cpu())
    return {name: _joined(means, blocks, name) for name, means in parts.items()}


def _joined(means: list[Tensor], blocks: GuideBlocks, name: str) -> Tensor:
    axis = row_axis(blocks.structure.site(name), blocks.structure, leading=0)
    return means[0] if axis is None else torch.cat(means, axis)


def _mean(fn: pyro.distributions.Distribution, name: str) -> Tensor:
    try:
        return fn.mean
    except NotImplementedError as error:
        raise ProgramError(
            f"site '{name}': {type(fn).__name__} has no mean, so there is no reconstruction. Remedy: "
            f"infer(data, predictive=True) draws replicated data."
        ) from error
