"""The processes of one run: what they share, agree on, and average.

Convention of this module: every process calls the same methods in the same order. With one process nothing is sent, and
every method gives back what it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed

from ppl_genmodels.data.share import Share
from ppl_genmodels.errors import NonFiniteError, PplError

__all__ = ["Processes", "seed_of"]

Made = TypeVar("Made")

APART = 0x9E3779B97F4A7C15
"""The distance between the seeds of two processes: odd and large, so that they meet no seed that a user chooses."""


class Processes:
    """The processes that Lightning Fabric has started.

    Args:
        fabric: Launched.

    Example:
        >>> processes = Processes(Fabric(accelerator="cpu"))
        >>> processes.count, processes.first(lambda: "made here"), processes.any(False, True)
        (1, 'made here', [False, True])
    """

    def __init__(self, fabric: Fabric) -> None:
        self.rank, self.count, self.device = fabric.global_rank, fabric.world_size, fabric.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """This process's part of every batch."""
        return Share(self.rank, self.count)

    def seed(self, seed: int) -> int:
        """The seed of this process's own random state; the first process has the seed itself."""
        return seed_of(seed, self.rank)

    def mean(self, compute: Callable[[], Tensor], count: int, weight: float) -> Tensor:
        """The weighted mean of what each process computes; an error in one of them is raised in all.

        Args:
            compute: Gives numbers, shape (count,).
            count: How many.
            weight: This process's weight; they average to one.

        Raises:
            NonFiniteError: When the numbers of a process are not finite.
            PplError: When the computation failed in another process; in that one its own error is raised.
        """
        if self.count == 1:
            return compute()
        sent, error = torch.zeros(count + 1, dtype=torch.float64, device=self.device), None
        try:
            sent[:count] = weight / self.count * compute()
        except Exception as caught:  # whatever it is, the others must not wait for this process
            sent[count], error = 1.0, caught
        distributed.all_reduce(sent)
        if sent[count] > 0:
            self._raise(error)
        return sent[:count]

    def sum(self, *values: float) -> list[float]:
        """The sum of each number over the processes."""
        if self.count == 1 or not values:
            return list(values)
        sent = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(sent)
        return sent.tolist()

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set in any process."""
        return [total > 0 for total in self.sum(*map(float, flags))]

    def gather(self, value: Any) -> list[Any]:
        """What each process gave, in order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, value)
        return found

    def first(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, in all of them; when that fails, its error in all of them."""
        if self.count == 1:
            return make()
        made, error = None, None
        if self.is_first:
            try:
                made = make()
            except Exception as caught:
                error = caught
        if self.any(error is not None)[0]:
            self._raise(error)
        found = [made]
        distributed.broadcast_object_list(found, src=0, device=self.device)
        return found[0]  # type: ignore[return-value]

    @torch.no_grad()
    def send(self, tensors: list[Tensor]) -> None:
        """Gives every process the first one's values, in place."""
        if self.count == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            distributed.broadcast(flat, src=0)
            for tensor, part in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Waits until every process is here."""
        self.sum(0.0)

    def _raise(self, error: Exception | None) -> NoReturn:
        """Raises this process's own error, or that of the first process that has one."""
        found = self.gather(None if error is None else (isinstance(error, NonFiniteError), _text(error)))
        rank, (not_finite, text) = next((r, described) for r, described in enumerate(found) if described is not None)
        if not_finite:
            raise NonFiniteError(text) from error
        if error is not None:
            raise error
        raise PplError(f"process {rank} failed, so all stop: {text}")


def seed_of(seed: int, rank: int) -> int:
    """The seed of one process's random state, so that no two processes, and no two runs, draw the same noise.

    Example:
        >>> seed_of(3, rank=0), seed_of(3, rank=1) == seed_of(4, rank=0)
        (3, False)
    """
    return (seed + rank * APART) % 2**63


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, PplError) else f"{type(error).__name__}: {error}"
