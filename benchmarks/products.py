"""The matrix product alone, in torch and in JAX: what of a step's ratio is the arithmetic's and not the language's.

Convention of this module: the product of the published size's first layer, 128x784 by 784x400, the left sides in turn.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ppl_genmodels.inference.products  # noqa: F401, makes the operation known
from benchmarks.interleaved import Rounds, Way, ratios
from benchmarks.machine import clock
from ppl_genmodels.inference.precision import matmul_precision_set

__all__ = ["REFERENCE", "measure", "ways"]

REFERENCE = "torch, float32"
ROWS, INNER, COLUMNS = 128, 784, 400


def measure(rounds: int, device: str) -> Rounds:
    """The ratios to torch's product in float32."""
    print("timing the matrix product alone ...", flush=True)
    return ratios(ways(device), REFERENCE, rounds, clock(device))


def ways(device: str) -> dict[str, Way]:
    """The product in torch in three precisions, and in JAX where it is installed and sees the device.

    Example:
        >>> list(ways("cpu"))[:3]
        ['torch, float32', 'torch, float32 by medium products', 'torch, bfloat16']
    """
    lefts, right = (
        [torch.randn(ROWS, INNER, device=device) for _ in range(8)],
        torch.randn(INNER, COLUMNS, device=device),
    )
    exact = _in_turn(lefts, lambda left: left @ right, device)
    half = right.bfloat16()
    found = {
        REFERENCE: Way(exact),
        "torch, float32 by medium products": Way(exact, matmul_precision_set("medium")),
        "torch, bfloat16": Way(_in_turn([left.bfloat16() for left in lefts], lambda left: left @ half, device)),
    }
    if device == "cpu" and torch.backends.mkldnn.is_available():
        weight = right.t().contiguous()
        found["torch, float32 by oneDNN"] = Way(
            _in_turn(lefts, lambda left: torch.ops.ppl_genmodels.product(left, weight, None), device)
        )
    if importlib.util.find_spec("jax") is not None:
        found |= _in_jax(lefts, right, device)
    return found


def _in_turn(lefts: list[Any], product: Callable[[Any], Any], device: str) -> Callable[[], None]:
    turning = itertools.cycle(lefts)

    def step() -> None:
        product(next(turning))
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _in_jax(lefts: list[Tensor], right: Tensor, device: str) -> dict[str, Way]:
    import jax
    import jax.numpy as jnp

    if device != "cpu" and jax.default_backend() == "cpu":
        return {}
    jax.config.update("jax_default_matmul_precision", "float32")
    matrix, product = jnp.asarray(right.cpu().numpy()), jax.jit(jnp.matmul)
    arrays = [jnp.asarray(left.cpu().numpy()) for left in lefts]
    return {"JAX, float32": Way(_in_turn(arrays, lambda left: product(left, matrix).block_until_ready(), "cpu"))}
