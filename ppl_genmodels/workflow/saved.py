"""Read a fitted run from its folder.

Convention of this module: reading runs no code from the folder. A program of the catalogue is built again from its
recorded options; any other must be given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from ppl_genmodels.errors import CheckpointError, ProgramError
from ppl_genmodels.inference.state import module_device, read_json, read_tensors
from ppl_genmodels.models import catalogue
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.workflow.card import example_inputs, fingerprint
from ppl_genmodels.workflow.fitted import CARD, HISTORY, WEIGHTS, Fitted

__all__ = ["load"]


def load(path: str | Path, program: Any = None) -> Fitted:
    """A fitted run from the folder that :meth:`Fitted.save` or a fit with ``out`` wrote.

    Args:
        path: The folder.
        program: The program with the architecture of the fit; needed unless it is from the catalogue.

    Raises:
        CheckpointError: When the folder holds no run, a file is damaged, the program is not from the catalogue
            and not given, or its parameters are others than those saved.

    Example:
        >>> import tempfile
        >>> from ppl_genmodels import fit
        >>> from ppl_genmodels.models import VAE
        >>> fitted = fit(VAE(data_dim=9, latent_dim=2), torch.ones(4, 9), steps=1, progress=False)
        >>> folder = tempfile.mkdtemp()
        >>> fitted.save(folder)
        >>> load(folder).program.options["latent_dim"]
        2
    """
    folder = Path(path)
    if not (folder / CARD).is_file():
        raise CheckpointError(
            f"{folder} holds no run: there is no {CARD}. Remedy: give the folder that fit(out=...) or save(...) wrote; "
            f"an interrupted fit is finished by fit(..., out=..., resume=True)."
        )
    card = read_json(folder / CARD)
    try:
        recorded, inputs = card["program"], card["inputs"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CARD} is not the card of a run: it has no {error}.") from error
    restored = as_program(_build(recorded, folder) if program is None else program)
    args, kwargs = example_inputs(inputs, whole=restored.has_autoguide, device=module_device(restored))
    try:
        restored.probe(*args, **kwargs)
    except ProgramError as error:
        raise CheckpointError(f"the program given does not fit the run in {folder}: {error}") from error
    _restore(restored, read_tensors(folder / WEIGHTS), folder)
    history = pd.read_csv(folder / HISTORY) if (folder / HISTORY).exists() else pd.DataFrame()
    return Fitted(restored, card["objective"], history, card)


def _build(recorded: dict[str, Any], folder: Path) -> Any:
    if not recorded["catalogue"]:
        raise CheckpointError(
            f"the run in {folder} was fitted with a program of its own, {recorded['name']}, which is not rebuilt "
            f"from a file. Remedy: load(path, program={recorded['name']}(...))."
        )
    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in (recorded["options"] or {}).items()
    }
    return catalogue.build(recorded["name"], **options)


def _restore(program: Program, weights: dict[str, Tensor], folder: Path) -> None:
    mine = fingerprint(program)
    theirs = {name: list(tensor.shape) for name, tensor in weights.items()}
    if mine != theirs:
        name = next(n for n in sorted({*mine, *theirs}) if mine.get(n) != theirs.get(n))
        raise CheckpointError(
            f"the weights in {folder / WEIGHTS} belong to another program: {name} has shape {theirs.get(name)} "
            f"there and {mine.get(name)} here. Remedy: build the program with the options of the fit."
        )
    program.load_state_dict(weights)
