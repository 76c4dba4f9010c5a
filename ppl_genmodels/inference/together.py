"""Whether a program can make many draws in one run, and what to do when it cannot.

Convention of this module: many draws are particles, a plate to the left of all others. A program that does not
broadcast over them, such as one whose weights are sites of a plain linear layer, is run once for each draw: that is
slower, and right.
"""

from __future__ import annotations

import pyro
import torch

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import PplError
from ppl_genmodels.inference.state import placed
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.probe import probe_model
from ppl_genmodels.program import Program

__all__ = ["draws_together", "rows_to_try", "seed_of"]

FEW = 4
"""Rows on which it is tried."""


def rows_to_try(program: Program, rows: Rows, few: int = FEW) -> int:
    """How many rows a program must be given at least: few, or all for a guide with parameters for each row.

    Args:
        program: The program.
        rows: The data.
        few: How many are few.

    Example:
        >>> import pyro.distributions as dist
        >>> from pyro.infer.autoguide import AutoNormal
        >>> def shared(x):
        ...     mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(mean, 1.0), obs=x)
        >>> rows_to_try(Program(shared, AutoNormal(shared)), Rows.of(torch.zeros(100)))
        4
    """
    few = min(few, len(rows))
    if not program.has_autoguide:
        return few
    args, kwargs = placed(rows.take(slice(0, few)), program)
    try:
        with torch.no_grad(), torch.random.fork_rng(), pyro.validation_enabled(False):
            structure = probe_model(program.model, args, kwargs)
    except PplError:
        return len(rows)
    shared = structure.data_plate is not None and not any(structure.is_local(site.name) for site in structure.latent)
    return few if shared else len(rows)


def draws_together(program: Program, rows: Rows) -> bool:
    """Whether a program runs with two particles on some of the rows.

    Args:
        program: The program.
        rows: The data.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     weight = pyro.sample("weight", dist.Normal(torch.zeros(1, 3), 1.0).to_event(2))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("y", dist.Normal(torch.nn.functional.linear(x, weight)[:, 0], 1.0))
        >>> draws_together(Program(model, model), Rows.of(torch.zeros(5, 3)))
        False
    """
    args, kwargs = placed(rows.take(slice(0, rows_to_try(program, rows))), program)
    try:
        with torch.no_grad(), torch.random.fork_rng(), pyro.validation_enabled(False):
            run = Run(program, args, kwargs, num_particles=2)
            for node in (*run.guide.nodes.values(), *run.model.nodes.values()):
                run.per_datum(node, run.site_log_prob(node))
    except (RuntimeError, ValueError, IndexError, TypeError, PplError):
        return False
    return True


def seed_of(seed: int, draw: int) -> int:
    """The seed of one of the draws that are made one by one.

    Example:
        >>> seed_of(0, 0) != seed_of(0, 1) != seed_of(1, 0)
        True
    """
    return (seed * 998_244_353 + draw * 1_000_003 + 17) % 2**62
