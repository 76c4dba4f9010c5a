"""A training step written in torch for one model: eager, and as torch compiles it.

Convention of this module: the step gives the loss as a number, as a loop that shows its progress does, and as Pyro's
``svi.step`` does always. No library of programs has a part in it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.by_hand import by_hand
from benchmarks.interleaved import Way
from benchmarks.tasks import Task
from ppl_genmodels.inference.precision import matmul_precision_set

__all__ = ["compiled", "eager", "reduced", "torch_way"]


def eager(task: Task) -> Way:
    """The reference: the loss by hand, ``backward``, and one fused Adam.

    Example:
        >>> from benchmarks.tasks import vae
        >>> eager(vae(9, 4, 2, rows=3)).step() > 0
        True
    """
    loss = by_hand(task)
    optimizer = torch.optim.Adam(loss.parameters(), task.learning_rate, fused=True)
    return torch_way(task, loss, optimizer)


def compiled(task: Task) -> Way:
    """The same with the loss and the optimizer's step under ``torch.compile``.

    Compiling one function of loss, ``backward`` and step is slower here: torch breaks its graph at ``backward``. Adam
    is the one of many tensors, because torch does not compile the fused one.
    """
    loss = by_hand(task)
    optimizer = torch.optim.Adam(loss.parameters(), task.learning_rate, foreach=True)
    return torch_way(task, torch.compile(loss), optimizer, torch.compile(optimizer.step))


def torch_way(
    task: Task,
    loss_of: Callable[..., Tensor],
    optimizer: torch.optim.Optimizer,
    update: Callable[[], object] | None = None,
) -> Way:
    """A loop of a loss and an optimizer over a task's batches."""
    batches, update = task.rotation(), update or optimizer.step

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(*next(batches))
        loss.backward()
        update()
        return loss.item()

    return Way(step)


def reduced(task: Task) -> Way:
    """The reference with torch's products of reduced precision, ``set_float32_matmul_precision("medium")``."""
    return Way(eager(task).step, matmul_precision_set("medium"))
