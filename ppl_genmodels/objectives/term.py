"""A term: one named quantity of a run, per datum.

Convention of this module: a term's values have the shape (particles, data), or (1, data) when the term mixes the
particles of a datum into one number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ppl_genmodels.objectives.game import Game
from ppl_genmodels.objectives.run import Run

__all__ = ["Term", "called", "named"]


@dataclass(frozen=True)
class Term:
    """A named quantity of a run.

    Attributes:
        name: What the history and :meth:`Objective.evaluate` call it.
        formula: Its formula in plain text.
        latex: Its formula in LaTeX.
        values: From a run to its values in nats, shape (particles, data) or (1, data).
        mixes_particles: Whether all particles of a datum enter one value.
        without_particle: For a term that mixes particles, from a run to what the value would be if each particle were
            replaced by something that does not depend on it, shape (particles, data); a baseline, without gradient.
        game: The other player of an adversarial term.
    """

    name: str
    formula: str
    latex: str
    values: Callable[[Run], Tensor]
    mixes_particles: bool = False
    without_particle: Callable[[Run], Tensor] | None = None
    game: Game | None = None


def named(base: str, sites: tuple[str, ...]) -> str:
    """The name of a term restricted to some sites.

    Example:
        >>> named("kl", ("y", "z")), named("kl", ())
        ('kl[y,z]', 'kl')
    """
    return f"{base}[{','.join(sites)}]" if sites else base


def called(base: str, sites: tuple[str, ...]) -> str:
    """The call that makes a term restricted to some sites, for messages.

    Example:
        >>> print(called("kl", ("y", "z")))
        kl('y', 'z')
    """
    return f"{base}({', '.join(map(repr, sites))})"
