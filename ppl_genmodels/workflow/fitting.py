"""Fit a program to data.

Convention of this module: what can be checked is checked before the first step, on rows chosen to be hard.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ppl_genmodels.data.batches import Batches, LoaderBatches, split
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import NonFiniteError, OptionError, ProgramError, RunFolderError
from ppl_genmodels.handlers import mask_missing
from ppl_genmodels.inference.callbacks import Callback, EarlyStopping
from ppl_genmodels.inference.checkpoint import Checkpoints, CheckpointWarning
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.critics import Critic
from ppl_genmodels.inference.devices import launch, make_fabric
from ppl_genmodels.inference.gradient import make_compiled
from ppl_genmodels.inference.precision import MatmulPrecision, matmul_precision_set
from ppl_genmodels.inference.processes import Processes
from ppl_genmodels.inference.training import Training, make_optimizer
from ppl_genmodels.objectives import Objective, default_objective
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.workflow.card import fingerprint, run_card
from ppl_genmodels.workflow.checks import check_batches, check_program, check_validation
from ppl_genmodels.workflow.estimators import estimators_in
from ppl_genmodels.workflow.fitted import CARD, Fitted
from ppl_genmodels.workflow.starts import set_by_data

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
    compile: Mode = "auto",
    precision: str = "32-true",
    matmul_precision: MatmulPrecision | None = None,
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
            independent entries. None for a program that is called without data, such as a density that is known up to
            its normalizer, to which the guide is fitted; an epoch is one step then.
        objective: What to maximise; by default the program's own, :func:`ppl_genmodels.objectives.elbo` of most.
        epochs: Passes over the data; 20 when neither this nor ``steps`` is given.
        steps: Updates, instead of ``epochs``.
        batch_size: Rows in a batch, which several processes share.
        optimizer: A ``torch.optim`` optimizer, or a function from parameters to one; Adam at 1e-3 by default.
        num_particles: Draws from the guide for each datum.
        validation: Share of the data held out, or held-out data.
        early_stopping: Epochs without a rise of the validation objective after which to stop.
        callbacks: What else to do while training; see :mod:`ppl_genmodels.inference.callbacks`.
        compile: ``"off"`` runs each step eagerly; ``"trace"`` traces objective and gradient once into a graph of tensor
            operations and replays it, with the same numbers; ``"inductor"`` also lowers the graph to compiled code,
            which takes some seconds and rounds differently; ``"auto"`` measures and traces where that pays. A program
            that cannot be traced runs eagerly, with a warning that names the line.
        precision: As Lightning Fabric names it: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``, ``"64-true"``.
        matmul_precision: Of matrix products of single-precision numbers, as ``torch.set_float32_matmul_precision`` has
            it: ``"highest"`` is exact, ``"high"`` lets a GPU use TensorFloat-32, ``"medium"`` lets processors that can
            multiply in bfloat16; None leaves torch's setting alone.
        accelerator: As Lightning Fabric names it: ``"auto"``, ``"cpu"``, ``"cuda"``.
        devices: How many on each machine, one process for each.
        strategy: How several processes train together: ``"ddp"``, whose parameters are those of one process.
        seed: Of everything random.
        out: Folder for checkpoints, history and card, which the first process writes; none is written without it.
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
    objective = default_objective(program) if objective is None else objective
    _check_options(objective, num_particles, callbacks, out, resume)
    set_precision = matmul_precision_set(matmul_precision)
    batches, held_out = _batches(data, batch_size, validation, seed)
    total = _total_steps(epochs, steps, batches.per_epoch)
    fabric = make_fabric(accelerator, devices, strategy, precision)
    launch(fabric)
    processes = Processes(fabric)
    prepared, divergences, gradients = _prepare(program, objective, batches, held_out, num_particles, processes.count)
    folder = None if out is None else processes.first(lambda: _folder(Path(out), resume))
    settings: dict[str, Any] = {"epochs": epochs, "steps": total, "batch_size": batch_size, "seed": seed}
    settings |= {
        "num_particles": num_particles,
        "compile": compile,
        "precision": precision,
        "matmul_precision": torch.get_float32_matmul_precision() if matmul_precision is None else matmul_precision,
        "device": str(fabric.device),
        "processes": processes.count,
    }
    card = processes.first(lambda: run_card(prepared, batches.rows, objective, settings, divergences, gradients))
    critics = [
        Critic(game, prepared, fabric, num_particles, len(batches.rows), compile, total, name)
        for game, name in zip(objective.games, objective.game_names, strict=True)
    ]
    training = Training(
        prepared,
        objective,
        batches,
        make_optimizer(prepared, optimizer),
        fabric,
        num_particles=num_particles,
        validation=held_out,
        callbacks=_callbacks(callbacks, early_stopping),
        compiled=make_compiled(compile, objective, prepared, fabric, num_particles, len(batches.rows), total),
        checkpoints=None if folder is None else Checkpoints(folder),
        critics=critics,
        signature={
            "program": fingerprint(prepared),
            "data": card["data"],
            "objective": card["objective"],
            "settings": {name: settings[name] for name in ("batch_size", "seed", "num_particles", "processes")},
        },
    )
    try:
        with set_precision():
            training.run(total, seed, resume, progress)
    except NonFiniteError as error:
        error.fitted = Fitted.of(training, card)
        raise
    fitted = Fitted.of(training, card)
    if folder is not None and processes.is_first:
        _write(fitted, folder)
    processes.wait()
    return fitted


def _check_options(
    objective: Any, num_particles: int, callbacks: Sequence[Any], out: str | Path | None, resume: bool
) -> None:
    if not isinstance(objective, Objective):
        raise OptionError(
            f"objective is {objective!r}, expected an Objective. Remedy: objectives.elbo(), or a sum of terms such as "
            f"objectives.log_lik() - objectives.kl()."
        )
    if num_particles < 1:
        raise OptionError(f"num_particles must be at least 1, got {num_particles}. Remedy: num_particles=1.")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise OptionError(
                f"callbacks hold {callback!r}, expected a Callback. Remedy: an instance of inference.Callback, its "
                f"hooks overridden."
            )
    if resume and out is None:
        raise OptionError("resume=True needs the folder of the run to go on with. Remedy: out='runs/...'.")


def _batches(
    data: Any, batch_size: int, validation: float | Any | None, seed: int
) -> tuple[Batches | LoaderBatches, Batches | None]:
    share = validation if isinstance(validation, Real) else None
    if share is not None and isinstance(data, DataLoader):
        raise OptionError("a DataLoader cannot be split. Remedy: pass held-out data as validation, or the Dataset.")
    held_out = None if validation is None or share is not None else Rows.of(validation, "validation")
    if isinstance(data, DataLoader):
        train: Batches | LoaderBatches = LoaderBatches(data, seed)
    else:
        rows = Rows.of(data)
        if share is not None:
            rows, held_out = split(rows, float(share), seed)
        train = Batches(rows, batch_size, seed)
    return train, None if held_out is None else Batches(held_out, max(batch_size, 512), seed)


def _total_steps(epochs: int | None, steps: int | None, per_epoch: int) -> int:
    if epochs is not None and steps is not None:
        raise OptionError(
            f"got epochs={epochs} and steps={steps}, which is twice the length. Remedy: give one of them."
        )
    total = steps if steps is not None else (DEFAULT_EPOCHS if epochs is None else epochs) * per_epoch
    if total < 1:
        raise OptionError(
            f"epochs and steps must be at least 1, got epochs={epochs}, steps={steps}. Remedy: epochs=20."
        )
    return total


def _prepare(
    program: Any,
    objective: Objective,
    batches: Batches | LoaderBatches,
    held_out: Batches | None,
    num_particles: int,
    processes: int,
) -> tuple[Program, dict[str, str], dict[str, str]]:
    """The program probed and checked on hard rows, missing values masked; how divergences and gradients are made."""
    prepared, rows = _with_critics(as_program(program), objective, processes), batches.rows
    validation = None if held_out is None else held_out.rows
    if rows.missing or (validation is not None and validation.missing):
        prepared = mask_missing(prepared)
    batch_size = batches.batch_size if isinstance(batches, Batches) else batches.loader.batch_size or 1
    with torch.random.fork_rng():
        torch.manual_seed(batches.seed)
        divergences = check_program(prepared, objective, rows, num_particles)
        check_batches(prepared, objective, rows, validation, -(-batch_size // processes), num_particles)
        if validation is not None:
            check_validation(prepared, objective, validation, num_particles)
        gradients = estimators_in(prepared, rows)
        set_by_data(prepared, rows, batch_size)
    if processes > 1:
        _check_shared(prepared)
    return prepared, divergences, gradients


def _with_critics(program: Program, objective: Objective, processes: int) -> Program:
    """The program with the critics of its objective, if there are any.

    Raises:
        OptionError: When several processes would train them.
    """
    if objective.games and processes > 1:
        raise OptionError(
            f"the objective {objective} has a critic, which one process trains, got {processes}. Remedy: devices=1."
        )
    others = [module for game in objective.games for module in game.modules]
    return program.with_critics(others) if others else program


def _check_shared(program: Program) -> None:
    """Checks that the objective is a mean over rows, so that processes may take some of them each.

    Raises:
        ProgramError: When the program has no plate around its data.
    """
    if program.structure().data_plate is None:
        raise ProgramError(
            "several processes share the rows of each batch, and the program has no plate around its data: its "
            "objective is no mean over rows. Remedy: with pyro.plate('data', len(x)) around the observed site, or "
            "devices=1."
        )


def _folder(path: Path, resume: bool) -> Path:
    """The folder of a run, made when it is not there.

    Raises:
        RunFolderError: When it cannot be made, or holds what is not this run.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be made: {error}. Remedy: choose another output folder.") from error
    if any(path.iterdir()) and not resume:
        raise RunFolderError(
            f"{path} is not empty: it may hold another run. Remedy: resume=True to go on with it, another folder, or "
            f"delete it."
        )
    if resume and (path / CARD).exists() and not Checkpoints(path).found():
        raise RunFolderError(
            f"{path} holds a run without checkpoints, which cannot be resumed and would be lost. Remedy: choose "
            f"another folder, and start from load({str(path)!r}).program."
        )
    return path


def _write(fitted: Fitted, folder: Path) -> None:
    """Writes what was fitted; a failure is a warning, so that what was fitted is returned all the same."""
    try:
        fitted.write(folder)
    except RunFolderError as error:
        warnings.warn(f"the fitted program was not saved: {error} Then call fitted.save(...).", CheckpointWarning, 3)


def _callbacks(callbacks: Sequence[Callback], early_stopping: int | EarlyStopping | None) -> list[Callback]:
    if early_stopping is None:
        return list(callbacks)
    if isinstance(early_stopping, int):
        early_stopping = EarlyStopping(early_stopping)
    return [*callbacks, early_stopping]
