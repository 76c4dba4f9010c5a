"""Fit a program to data.

Convention of this module: what can be checked is checked before the first step, on rows chosen to be hard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ppl_genmodels.data.batches import Batches, LoaderBatches, split
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import NonFiniteError, OptionError, RunFolderError
from ppl_genmodels.handlers import mask_missing
from ppl_genmodels.inference.callbacks import Callback, EarlyStopping
from ppl_genmodels.inference.checkpoint import Checkpoints
from ppl_genmodels.inference.engine import make_fabric
from ppl_genmodels.inference.state import module_device, placed
from ppl_genmodels.inference.training import Training, make_optimizer
from ppl_genmodels.objectives import Objective, elbo
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.workflow.card import fingerprint, run_card
from ppl_genmodels.workflow.checks import check_missing, check_objective
from ppl_genmodels.workflow.fitted import Fitted

__all__ = ["fit"]

DEFAULT_EPOCHS = 20


def fit(
    program: Any,
    data: Any,
    *,
    objective: Objective | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    optimizer: torch.optim.Optimizer | Callable[[Any], torch.optim.Optimizer] | None = None,
    num_particles: int = 1,
    validation: float | Any | None = None,
    early_stopping: int | EarlyStopping | None = None,
    callbacks: Sequence[Callback] = (),
    precision: str = "32-true",
    accelerator: str = "auto",
    devices: int | str = 1,
    strategy: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Fitted:
    """Fits a program's parameters to data by maximising an objective.

    Args:
        program: Any object with ``.model`` and ``.guide``, a pair ``(model, guide)`` of Pyro callables, or a model
            without latent sites.
        data: An array, a tensor, a dict of arrays (keyword arguments of the program), a tuple of arrays, or a torch
            ``Dataset`` or ``DataLoader``; rows first. NaN means missing, where the program's likelihood is one of
            independent entries.
        objective: What to maximise; :func:`ppl_genmodels.objectives.elbo` by default.
        epochs: Passes over the data; 20 when neither this nor ``steps`` is given.
        steps: Updates, instead of ``epochs``.
        batch_size: Rows in a batch.
        optimizer: A ``torch.optim`` optimizer, or a function from parameters to one; Adam at 1e-3 by default.
        num_particles: Draws from the guide for each datum.
        validation: Share of the data held out, or held-out data.
        early_stopping: Epochs without a rise of the validation objective after which to stop.
        callbacks: What else to do while training; see :mod:`ppl_genmodels.inference.callbacks`.
        precision: As Lightning Fabric names it: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``, ``"64-true"``.
        accelerator: As Lightning Fabric names it: ``"auto"``, ``"cpu"``, ``"cuda"``.
        devices: As Lightning Fabric counts them.
        strategy: As Lightning Fabric names it.
        seed: Of everything random.
        out: Folder for checkpoints, history and card; none is written without it.
        resume: Whether to go on from the newest checkpoint in ``out``.
        progress: Whether to show a progress bar.

    Returns:
        The fitted program with its history.

    Raises:
        DataError: When the data cannot be used.
        ProgramError: When the program cannot be used, or not on these data.
        UnknownNameError: When the objective names a site that is not there.
        RunFolderError: When ``out`` holds another run.
        CheckpointError: When the run to resume belongs to another program, data or objective.
        NonFiniteError: When the objective or its gradient is not finite; what was fitted is in its ``fitted``.

    Example:
        >>> from ppl_genmodels.models import VAE
        >>> x = torch.rand(64, 9).round()
        >>> fitted = fit(VAE(data_dim=9, latent_dim=2), x, epochs=2, progress=False)
        >>> list(fitted.history.columns)[:5]
        ['step', 'epoch', 'objective', 'log_lik', 'kl']
    """
    objective = elbo() if objective is None else objective
    batches, held_out = _batches(data, batch_size, validation, seed)
    total = _total_steps(epochs, steps, batches.per_epoch)
    fabric = make_fabric(accelerator, devices, strategy, precision)
    fabric.launch()
    prepared, divergences = _prepare(program, batches.rows, objective, seed, num_particles)
    folder = None if out is None else _folder(Path(out), resume)
    settings: dict[str, Any] = {"epochs": epochs, "steps": total, "batch_size": batch_size, "seed": seed}
    settings |= {
        "num_particles": num_particles,
        "precision": precision,
        "device": str(fabric.device),
    }
    card = run_card(prepared, batches.rows, objective, settings, divergences)
    training = Training(
        prepared,
        objective,
        batches,
        make_optimizer(prepared, optimizer),
        fabric,
        num_particles=num_particles,
        validation=held_out,
        callbacks=_callbacks(callbacks, early_stopping),
        checkpoints=None if folder is None else Checkpoints(folder),
        signature={
            "program": fingerprint(prepared),
            "data": card["data"],
            "objective": card["objective"],
            "settings": {name: settings[name] for name in ("batch_size", "seed", "num_particles")},
        },
    )
    try:
        training.run(total, seed, resume, progress)
    except NonFiniteError as error:
        error.fitted = Fitted.of(training, card)
        raise
    fitted = Fitted.of(training, card)
    if folder is not None and fabric.is_global_zero:
        fitted.write(folder)
    return fitted


def _batches(
    data: Any, batch_size: int, validation: float | Any | None, seed: int
) -> tuple[Batches | LoaderBatches, Batches | None]:
    if isinstance(data, DataLoader):
        if isinstance(validation, float):
            raise OptionError("a DataLoader cannot be split. Remedy: pass held-out data as validation, or the Dataset.")
        held_out = None if validation is None else Rows.of(validation, "validation")
        train: Batches | LoaderBatches = LoaderBatches(data, seed)
    else:
        rows = Rows.of(data)
        if isinstance(validation, float):
            rows, held_out = split(rows, validation, seed)
        else:
            held_out = None if validation is None else Rows.of(validation, "validation")
        train = Batches(rows, batch_size, seed)
    return train, None if held_out is None else Batches(held_out, max(batch_size, 512), seed)


def _total_steps(epochs: int | None, steps: int | None, per_epoch: int) -> int:
    if epochs is not None and steps is not None:
        raise OptionError(f"give epochs or steps, not both; got epochs={epochs}, steps={steps}.")
    total = steps if steps is not None else (DEFAULT_EPOCHS if epochs is None else epochs) * per_epoch
    if total < 1:
        raise OptionError(f"epochs and steps must be at least 1, got epochs={epochs}, steps={steps}.")
    return total


def _prepare(
    program: Any, rows: Rows, objective: Objective, seed: int, num_particles: int
) -> tuple[Program, dict[str, str]]:
    """The program probed and checked on rows that hold the extremes of the data, missing values masked."""
    prepared = as_program(program)
    if rows.missing:
        prepared = mask_missing(prepared)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        index = range(len(rows)) if prepared.has_autoguide else rows.extremes()
        args, kwargs = placed(rows.take(index), module_device(prepared))
        prepared.probe(*args, **kwargs)
        if rows.missing:
            check_missing(prepared, rows, args, kwargs)
        divergences = check_objective(prepared, objective, args, kwargs, num_particles)
    return prepared, divergences


def _folder(path: Path, resume: bool) -> Path:
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file, expected a folder. Remedy: choose another output folder.")
    if path.is_dir() and any(path.iterdir()) and not resume:
        raise RunFolderError(
            f"{path} is not empty: it may hold another run. Remedy: resume=True to go on with it, another folder, or "
            f"delete it."
        )
    return path


def _callbacks(callbacks: Sequence[Callback], early_stopping: int | EarlyStopping | None) -> list[Callback]:
    if early_stopping is None:
        return list(callbacks)
    if isinstance(early_stopping, int):
        early_stopping = EarlyStopping(early_stopping)
    return [*callbacks, early_stopping]
