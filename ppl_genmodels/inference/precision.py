"""The precision of matrix products in single precision: the process's own setting, changed for a while.

Convention of this module: nothing is changed unless asked for, and what was changed is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, get_args

import torch

from ppl_genmodels.errors import OptionError

__all__ = ["MatmulPrecision", "matmul_precision_set"]

MatmulPrecision = Literal["highest", "high", "medium"]


def matmul_precision_set(precision: MatmulPrecision | None) -> Callable[[], AbstractContextManager[None]]:
    """A context manager's maker that sets the precision of matrix products while open.

    Args:
        precision: ``"highest"`` is exact single precision; ``"high"`` lets a GPU use TensorFloat-32; ``"medium"`` lets
            processors that have it multiply in bfloat16 (8 bits of mantissa) and add in single precision; None leaves
            the setting alone.

    Raises:
        OptionError: When the precision is none of these.

    Example:
        >>> with matmul_precision_set("medium")():
        ...     torch.get_float32_matmul_precision()
        'medium'
        >>> torch.get_float32_matmul_precision()
        'highest'
    """
    if precision is None:
        return nullcontext
    if precision not in get_args(MatmulPrecision):
        names = ", ".join(map(repr, get_args(MatmulPrecision)))
        raise OptionError(f"matmul_precision is one of {names}, or None; got {precision!r}.")

    @contextmanager
    def changed() -> Iterator[None]:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    return changed
