"""What a run's card says of the program that the command line built, and the way back from it.

Convention of this module: names in the catalogue are built again; a file is named by the user each time, because a
folder that somebody sent must not choose the code that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_genmodels.cli.program import build_program, is_file
from ppl_genmodels.errors import OptionError

if TYPE_CHECKING:
    from ppl_genmodels.workflow import Fitted

__all__ = ["load_run", "record_program"]

KEY = "command_line"


def record_program(fitted: Fitted, model: str, options: Mapping[str, Any], guide: str | None, out: Path) -> None:
    """Writes into a run's card how its program was built.

    Raises:
        RunFolderError: When the card cannot be written.
    """
    fitted.card[KEY] = {"model": model, "options": dict(options), "guide": guide}
    fitted.save(out)


def load_run(run: Path, own_model: str | None = None) -> Fitted:
    """The fitted run in a folder.

    Args:
        run: The folder.
        own_model: The program of the fit, ``path/to/file.py:Class``, where it was the user's own.

    Raises:
        OptionError: When the run was fitted with the user's own program and that is not given.
        CheckpointError: When the folder holds no whole run, or that of another program.
    """
    from ppl_genmodels.inference.state import read_json
    from ppl_genmodels.workflow import load
    from ppl_genmodels.workflow.fitted import CARD

    card = read_json(run / CARD) if (run / CARD).is_file() else {}
    recorded = card.get(KEY, {"model": "", "options": {}, "guide": None})
    model = own_model or recorded["model"]
    if not model:
        return load(run)
    if is_file(model) and own_model is None:
        raise OptionError(
            f"the run in {run} was fitted with a program of your own, and a folder never chooses the code that runs. "
            f"Remedy: add --model {model} (it runs that file)."
        )
    return load(run, build_program(model, recorded["options"], recorded["guide"]))
