"""What the paths of a continuous flow cost, noted while they are solved.

Convention of this module: costs have the batch shape of the values that were carried; they are noted by whoever asked
for them before the solve, so that a transform stays free of what its last call was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from torch import Tensor

__all__ = ["PathCosts", "note_costs", "noted_costs"]


class PathCosts(NamedTuple):
    r"""Two costs of the path of each value, both divided by the number of features.

    Attributes:
        kinetic_energy: :math:`\int_0^1 \|f(x_t, t)\|^2 dt / d`.
        jacobian_norm: :math:`\int_0^1 \|\partial f / \partial x_t\|_F^2 dt / d`.

    References:
        Finlay, Jacobsen, Nurbekyan and Oberman (2020), How to Train Your Neural ODE: the World of Jacobian and Kinetic
        Regularization.
    """

    kinetic_energy: Tensor
    jacobian_norm: Tensor


_NOTES: ContextVar[list[PathCosts] | None] = ContextVar("path_costs", default=None)


@contextmanager
def noted_costs() -> Iterator[list[PathCosts]]:
    """While open, every solve of a continuous layer with its log-determinant adds its costs to the list.

    Example:
        >>> import torch
        >>> from ppl_genmodels.transforms import Continuous
        >>> with noted_costs() as costs:
        ...     _ = Continuous(2).call_and_ladj(torch.zeros(5, 2))
        >>> costs[0].kinetic_energy.shape
        torch.Size([5])
    """
    notes: list[PathCosts] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note_costs(costs: PathCosts) -> None:
    """Adds costs to the list of whoever asked for them, if any did.

    Example:
        >>> import torch
        >>> with noted_costs() as costs:
        ...     note_costs(PathCosts(torch.ones(3), torch.zeros(3)))
        >>> len(costs)
        1
    """
    notes = _NOTES.get()
    if notes is not None:
        notes.append(costs)
