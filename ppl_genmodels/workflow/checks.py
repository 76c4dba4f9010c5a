"""Checks of a program, its objective and its data before the first step.

Convention of this module: a check runs eagerly with validation on, on few rows, and names what is at fault.
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import DataError, PplError, ProgramError
from ppl_genmodels.objectives import Objective, Run
from ppl_genmodels.program import Program

__all__ = ["check_missing", "check_objective"]


def check_objective(
    program: Program,
    objective: Objective,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    num_particles: int,
) -> dict[str, str]:
    """Evaluates the objective once, validated.

    Returns:
        How the divergence of each latent site was computed.

    Raises:
        UnknownNameError: When a term names a site that is not there.
        ProgramError: When a site cannot price its value, or fails under the plate of particles.
    """
    with torch.no_grad(), pyro.validation_enabled(True):
        try:
            run = Run(program, args, kwargs, num_particles)
            objective.values(run)
            return run.divergences
        except (ValueError, RuntimeError, IndexError) as error:
            if num_particles == 1 or isinstance(error, PplError):
                raise
            raise ProgramError(
                f"the program fails with num_particles={num_particles}: {str(error).splitlines()[0]}. Remedy: "
                f"particles are a plate to the left of all others, so index batch dims from the right (dim=-1, x[..., 0])."
            ) from error


def check_missing(program: Program, rows: Rows, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Checks that missing values reach no site.

    Raises:
        DataError: When a site's value or log-density is NaN; the message names the site and where the data are NaN.
    """
    with torch.no_grad():
        run = Run(program, args, kwargs)
        for traced in (run.guide, run.model):
            for name, node in traced.nodes.items():
                if _has_nan(node["value"]) or _has_nan(run.site_log_prob(node)):
                    raise DataError(
                        f"the data have {rows.missing} NaN ({_where(rows)}) and they reach site '{name}', which is not "
                        f"an observation of them. Remedy: fill or drop those rows; NaN is masked only where it is the "
                        f"observed value itself."
                    )


def _has_nan(value: Tensor) -> bool:
    return bool(value.isnan().any())


def _where(rows: Rows) -> str:
    for name, array in rows.arrays().items():
        values = torch.as_tensor(array)
        if values.is_floating_point() and values.isnan().any():
            index = tuple(int(i) for i in values.isnan().nonzero()[0])
            return f"first in {name} at index {index}"
    return "in its items"
