"""What a program is fitted by unless its user says otherwise."""

from __future__ import annotations

from typing import Any

from ppl_genmodels.objectives.evidence import elbo
from ppl_genmodels.objectives.objective import Objective

__all__ = ["default_objective"]


def default_objective(program: Any) -> Objective:
    """A program's own objective, what its method ``default_objective()`` gives, or else :func:`elbo`.

    Args:
        program: Any program.

    Example:
        >>> print(default_objective((lambda: None, None)))
        E_q[log p(x|z)] - KL[q(z|x) || p(z)]
    """
    own = getattr(program, "default_objective", None)
    found: Objective = elbo() if own is None else own()
    return found
