"""Checkpoints of a run: the two newest are kept, a damaged one is passed over by name.

Convention of this module: a checkpoint is the folder ``checkpoints/<step>`` inside the run's folder.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from ppl_genmodels.errors import CheckpointError, RunFolderError
from ppl_genmodels.inference.state import read_state, write_state

__all__ = ["CheckpointWarning", "Checkpoints"]


class CheckpointWarning(UserWarning):
    """A checkpoint was not written, or was found damaged."""


class Checkpoints:
    """The checkpoints in a run's folder.

    Args:
        folder: The run's folder.
        keep: How many of the newest to keep.

    Example:
        >>> import tempfile
        >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()))
        >>> checkpoints.latest() is None
        True
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder / "checkpoints", keep

    def write(self, step: int, state: Any) -> None:
        """Writes one and removes those beyond ``keep``, and what a killed or another run left behind.

        A failure is a warning, so that training goes on.
        """
        try:
            write_state(self.folder / f"{step:09d}", state)
        except RunFolderError as error:
            warnings.warn(f"checkpoint of step {step}: {error}", CheckpointWarning, stacklevel=2)
            return
        kept = [folder for folder in self.found() if int(folder.name) <= step][-self.keep :]
        for other in {*self.found(), *self.folder.glob(".*.partial")} - set(kept):
            shutil.rmtree(other, ignore_errors=True)

    def found(self) -> list[Path]:
        """The checkpoints' folders, oldest first."""
        return sorted(p for p in self.folder.glob("[0-9]*") if p.name.isdecimal() and p.is_dir())

    def latest(self) -> Any | None:
        """The newest state that is whole, or None when there is no checkpoint.

        Raises:
            CheckpointError: When there are checkpoints and all are damaged.
        """
        found = self.found()
        for folder in reversed(found):
            try:
                return read_state(folder)
            except CheckpointError as error:
                warnings.warn(f"{error} Passed over.", CheckpointWarning, stacklevel=2)
        if found:
            raise CheckpointError(
                f"all {len(found)} checkpoints in {self.folder} are damaged. Remedy: start anew in another folder."
            )
        return None
