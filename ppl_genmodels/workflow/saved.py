"""Read a fitted run from its folder.

Convention of this module: reading runs no code from the folder. A program of the catalogue is built again from its
recorded options; any other must be given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from ppl_genmodels.errors import CheckpointError, PplError
from ppl_genmodels.inference.state import module_device, placed, read_json, read_tensors
from ppl_genmodels.models import catalogue
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.workflow.card import example_inputs
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
        >>> import tempfile, torch
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
    card, weights = _card(folder), read_tensors(folder / WEIGHTS)
    restored = as_program(_build(card["program"], folder) if program is None else program)
    _cast(restored, weights)
    inputs = example_inputs(card["inputs"], whole=restored.has_autoguide, device=module_device(restored))
    args, kwargs = placed(inputs, restored)
    try:
        restored.probe(*args, **kwargs)
    except PplError as error:
        raise CheckpointError(f"the program given does not fit the run in {folder}: {error}") from error
    _restore(restored, weights, folder)
    return Fitted(restored, card["objective"], _history(folder), card)


def _card(folder: Path) -> dict[str, Any]:
    card = read_json(folder / CARD)
    needed = ("program", "inputs", "objective", "data", "metrics", "id")
    absent = [name for name in needed if not isinstance(card, dict) or name not in card]
    if absent:
        raise CheckpointError(
            f"{folder / CARD} is not the card of a run: it has no '{absent[0]}'. Remedy: restore the file, or fit anew."
        )
    return card


def _history(folder: Path) -> pd.DataFrame:
    path = folder / HISTORY
    try:
        # As text first: Python's float() gives back exactly the number that was written.
        history = pd.read_csv(path, dtype=str).astype("float64")
        return history.astype({"step": "int64", "epoch": "int64"})
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Remedy: restore the file, or fit anew.") from error


def _cast(program: Program, weights: dict[str, Tensor]) -> None:
    """Brings a program into the precision of the weights."""
    dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        program.to(dtypes.pop())


def _build(recorded: dict[str, Any], folder: Path) -> Any:
    if not recorded["catalogue"]:
        raise CheckpointError(
            f"the run in {folder} was fitted with a program of its own, {recorded['name']}, which is not rebuilt "
            f"from a file. Remedy: load(path, program={recorded['name']}(...))."
        )
    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in (recorded["options"] or {}).items()
    }
    try:
        return catalogue.build(recorded["name"], **options)
    except PplError as error:
        raise CheckpointError(
            f"the program '{recorded['name']}' of the run in {folder} cannot be built again: {error} Remedy: give one "
            f"with load(path, program=...)."
        ) from error


def _restore(program: Program, weights: dict[str, Tensor], folder: Path) -> None:
    mine, theirs = (
        {name: list(tensor.shape) for name, tensor in each.items()} for each in (program.weights(), weights)
    )
    if mine != theirs:
        name = next(n for n in sorted({*mine, *theirs}) if mine.get(n) != theirs.get(n))
        there, here = (
            f"has shape {tuple(shapes[name])}" if name in shapes else "is absent" for shapes in (theirs, mine)
        )
        raise CheckpointError(
            f"the weights in {folder / WEIGHTS} belong to another program: {name} {there} there and {here} here. "
            f"Remedy: build the program with the options of the fit."
        )
    program.load_state_dict(weights, strict=False)  # what handlers remember is not among the weights
