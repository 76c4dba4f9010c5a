"""Checks of a program, its objective and its data before the first step.

Convention of this module: a check runs eagerly with validation on, on few rows chosen to be hard, and names what is at
fault.
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import DataError, PplError, ProgramError
from ppl_genmodels.handlers.mask_missing import without_missing
from ppl_genmodels.inference.state import placed
from ppl_genmodels.objectives import Objective, Run
from ppl_genmodels.probe import describe_data
from ppl_genmodels.program import Program
from ppl_genmodels.structure import Node

__all__ = ["check_batches", "check_missing", "check_objective", "check_program", "check_validation", "hard_inputs"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def hard_inputs(program: Program, rows: Rows) -> Inputs:
    """Rows at the limits of the data as arguments of a program; all rows for a guide with parameters for each."""
    return placed(rows.take(range(len(rows)) if program.has_autoguide else rows.extremes()), program)


def check_program(program: Program, objective: Objective, rows: Rows, num_particles: int) -> dict[str, str]:
    """Probes a program on hard rows and evaluates the objective once.

    Returns:
        How the divergence of each latent site was computed.

    Raises:
        ProgramError: When the program fails on the rows, or has neither observed sites nor a guide.
        DataError: When missing values reach what cannot be masked.
        UnknownNameError: When a term names a site that is not there.
    """
    args, kwargs = hard_inputs(program, rows)
    if rows.missing:
        check_missing(program, rows, args, kwargs)
    structure = program.probe(*args, **kwargs)
    if program.guide is None and not structure.observed and not objective.games:
        latent = ", ".join(repr(site.name) for site in structure.latent)
        raise ProgramError(
            f"run on {describe_data(args, kwargs)} the model observes nothing (it draws {latent or 'nothing'}) and "
            f"there is no guide, so that nothing is fitted. Remedy: pass the data; to fit to a density, a guide."
        )
    return check_objective(program, objective, args, kwargs, num_particles)


def check_batches(
    program: Program, objective: Objective, rows: Rows, held_out: Rows | None, batch_size: int, num_particles: int
) -> None:
    """Checks that a guide with parameters for each row is given those rows, all at once.

    Raises:
        ProgramError: When it is not.
    """
    structure = program.structure()
    local = [site.name for site in structure.latent if structure.is_local(site.name)]
    if not program.has_autoguide or not local:
        return
    refusal = ProgramError(
        f"the guide has parameters for each row of the data (site '{local[0]}' lies inside the data plate "
        f"'{structure.data_plate}'), so it serves neither batches of {batch_size} of the {len(rows)} rows nor "
        f"validation data. Remedy: batch_size={len(rows)} without validation, or guides.Amortized(model, encoder)."
    )
    if held_out is not None:
        raise refusal
    try:
        args, kwargs = placed(rows.take(slice(0, batch_size)), program)
        check_objective(program, objective, args, kwargs, num_particles)
    except (ValueError, RuntimeError, IndexError, ProgramError) as error:
        raise refusal from error


def check_validation(program: Program, objective: Objective, held_out: Rows, num_particles: int) -> None:
    """Checks held-out data as :func:`check_program` does, leaving the program's structure as it is.

    Raises:
        DataError: When they cannot be used.
    """
    try:
        check_program(program.wrap(lambda fn: fn), objective, held_out, num_particles)
    except PplError as error:
        raise DataError(f"the validation data cannot be used: {error}") from error


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
            for traced in (run.model, run.guide):
                for node in traced.nodes.values():
                    _check_shape(node)
            objective.values(run)
            return run.divergences
        except PplError:
            raise
        except (ValueError, RuntimeError, IndexError) as error:
            if num_particles == 1 or isinstance(error, PplError):
                raise
            raise ProgramError(
                f"the program fails with num_particles={num_particles}: {str(error).splitlines()[0]}. Remedy: "
                f"particles are a plate left of all others, so index batch dims from the right (dim=-1, x[..., 0])."
            ) from error


def check_missing(program: Program, rows: Rows, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Checks that missing values reach no site.

    Raises:
        DataError: When a site's value or log-density is NaN; the message names the site and where the data are NaN.
        ProgramError: When the program fails, NaN or not.
    """
    with torch.no_grad(), pyro.validation_enabled(False):
        try:
            run = Run(program, args, kwargs)
        except ProgramError as error:
            _probe_without(program, args, kwargs, error)
            raise DataError(f"{_described(rows)} and the program fails on them: {error}") from error
        for traced in (run.guide, run.model):
            for name, node in traced.nodes.items():
                if _has_nan(node["value"]) or _has_nan(run.site_log_prob(node)):
                    raise DataError(
                        f"{_described(rows)} and they reach site '{name}', which is not an observation of them. "
                        f"Remedy: fill or drop those rows; NaN is masked only where it is the observed value itself."
                    )


def _probe_without(program: Program, args: tuple[Any, ...], kwargs: dict[str, Any], error: ProgramError) -> None:
    """Raises the error again when it has nothing to do with NaN."""
    filled_args, filled_kwargs = without_missing(args, kwargs)
    try:
        program.probe(*filled_args, **filled_kwargs)
    except ProgramError:
        raise error from None


def _has_nan(value: Tensor) -> bool:
    return bool(value.isnan().any())


def _described(rows: Rows) -> str:
    name, index = rows.first_missing() or ("their items", ())
    return f"the data have {rows.missing} NaN (first in {name} at index {index})"


def _check_shape(node: Node) -> None:
    """Checks that a site's batch dims belong to plates, and that what is observed has the site's shape."""
    name, fn = node["name"], node["fn"]
    plates = {frame.dim for frame in node["cond_indep_stack"] if frame.vectorized}
    batch = tuple(fn.batch_shape)
    loose = [dim for dim in range(-len(batch), 0) if batch[dim] > 1 and dim not in plates]
    if loose:
        raise ProgramError(
            f"site '{name}' has batch shape {batch}, of which dim {loose[-1]} (size {batch[loose[-1]]}) is in no "
            f"plate. Remedy: .to_event({len(loose)}) where one draw has that shape, or a plate of that size around it."
        )
    expected, received = fn.shape(), node["value"].shape
    if node["is_observed"] and not _fits(received, expected):
        raise ProgramError(
            f"site '{name}' is observed with shape {tuple(received)}, expected {tuple(expected)} (batch {batch}, event "
            f"{tuple(fn.event_shape)}). Remedy: reshape the data, x.squeeze(-1) for a column, or let the distribution "
            f"have that shape with .to_event."
        )


def _fits(received: torch.Size, expected: torch.Size) -> bool:
    """Whether a value broadcasts to the shape without growing it."""
    try:
        return torch.broadcast_shapes(received, expected) == expected
    except RuntimeError:
        return False
