"""Errors that say what was received, what was expected, and the remedy.

Convention of this module: every message names the thing at fault (a site, a plate, an argument, a file),
and ends with what the user can do. One class per kind of mistake, so that callers can tell them apart.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "CheckpointError",
    "DataError",
    "DeviceError",
    "NonFiniteError",
    "OptionError",
    "PplError",
    "ProgramError",
    "RunFolderError",
    "UnknownNameError",
    "nearest",
]


class PplError(Exception):
    """Base of every error that this library raises for a user's mistake."""


class ProgramError(PplError):
    """A program is not what it must be: its sites, its plates, their shapes, or its guide."""


class DataError(PplError, ValueError):
    """Data cannot be used: its file, shape, dtype, or values."""


class OptionError(PplError, ValueError):
    """An argument has a value outside its range."""


class DeviceError(PplError, RuntimeError):
    """A device was asked for that is not there."""


class CheckpointError(PplError):
    """A checkpoint or a saved run is damaged, incomplete, or belongs to another program."""


class RunFolderError(PplError):
    """An output folder cannot be used: it holds another run, or cannot be written."""


class UnknownNameError(PplError, LookupError):
    """A name that does not exist; the message offers the nearest ones.

    Args:
        kind: What the name should have named, such as ``"site"``.
        name: The name received.
        known: The names that exist.
        where: Where it was looked up, such as ``"in kl(...)"``.

    Example:
        >>> print(UnknownNameError("site", "zz", ["z", "x"], "in kl('zz')"))
        no site 'zz' in kl('zz'). Did you mean 'z'? Known: 'x', 'z'.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        known = sorted(known)
        close = nearest(name, known)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        listed = ", ".join(map(repr, known)) or "none"
        super().__init__(f"no {kind} '{name}'{' ' + where if where else ''}.{hint} Known: {listed}.")


class NonFiniteError(PplError, ArithmeticError):
    """The objective or its gradient became infinite or NaN; training stopped before the update.

    Attributes:
        fitted: What was fitted up to the last good step, when raised by :func:`ppl_genmodels.fit`.
    """

    fitted: Any = None


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names most like ``name``, best first.

    Example:
        >>> nearest("latent_dims", ["latent_dim", "data_dim", "hidden"])
        ['latent_dim', 'data_dim']
    """
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
