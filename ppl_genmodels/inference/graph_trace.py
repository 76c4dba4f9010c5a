"""Tracing a function of tensors into a graph of tensor operations, or saying why it cannot be.

Convention of this module: a graph is traced at the dispatcher level, random operations included, so that its numbers
are the eager ones. What the function closes over, such as parameters, the graph holds by reference; what depends on the
values of its inputs in Python is refused.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = ["CompileWarning", "as_if_not_run", "same", "trace", "warn_eager"]

LIBRARIES = ("torch", "pyro", "ppl_genmodels")
"""Folders whose lines are not the user's own."""


class CompileWarning(UserWarning):
    """A program cannot be traced and runs eagerly; the message names the line that stands in the way."""


def trace(function: Callable[..., Any], inputs: Sequence[Any], program: nn.Module, what: str) -> Any | None:
    """A graph of a function, without argument validation; None, with a warning, when there can be no graph.

    Args:
        function: What to trace; its results are tensors in lists, tuples or dicts.
        inputs: Its positional arguments.
        program: Whose buffers are left as they were, like the random state.
        what: How messages call it.

    Returns:
        A module that is called with the same arguments as the function.

    Example:
        >>> graph = trace(lambda x: [x + torch.rand(2)], [torch.zeros(2)], nn.Identity(), "the sum")
        >>> first, second = graph(torch.zeros(2))[0], graph(torch.zeros(2))[0]
        >>> bool((first != second).all())
        True
    """
    with pyro.validation_enabled(False), as_if_not_run(program):
        try:
            # make_fx counts a bound method's self among the arguments.
            graph: Any = make_fx(lambda *traced: function(*traced))(*inputs)
        except Exception as error:  # Whether it is the user's mistake is for the eager run to say.
            warn_eager(what, *_obstacle(error))
            return None
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


@contextmanager
def as_if_not_run(program: nn.Module) -> Iterator[None]:
    """Leaves the random state and the program's buffers as they were.

    Example:
        >>> with as_if_not_run(nn.Identity()):
        ...     inside = torch.rand(())
        >>> bool(torch.rand(()) == inside)
        True
    """
    buffers = [(buffer, buffer.clone()) for buffer in program.buffers()]
    with torch.random.fork_rng():
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, NaN being equal to NaN.

    Example:
        >>> same(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan]))
        True
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def warn_eager(what: str, reason: str, where: str = "") -> None:
    """Says that a part of a program runs eagerly.

    Args:
        what: The part.
        reason: Why.
        where: The line at fault, when there is one.
    """
    place = f" ({where})" if where else ""
    warnings.warn(
        f"{what} cannot be traced and runs eagerly{place}: {reason} Remedy: tensor operations in that place "
        f"(torch.where for an if), or compile='off'.",
        CompileWarning,
        stacklevel=3,
    )


def _obstacle(error: BaseException) -> tuple[str, str]:
    """Why a function cannot be traced, and the last line of the user's own code that was reached."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(part in LIBRARIES for part in Path(f.filename).parts)] or frames
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "_local_scalar_dense" in reason or "aten._is_any_true" in reason or "item()" in reason:
        reason = "Python reads the value of a tensor there."
    return reason, f"{Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line}" if own else ""
