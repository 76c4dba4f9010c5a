"""A training step with NumPyro: ``svi.update`` under ``jax.jit``, waited for.

Convention of this module: the state is threaded through and the batches lie on JAX's device beforehand, so that a step
is one call of one compiled function. On another device than the processor it is left out unless JAX sees one.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import SVI

from benchmarks.interleaved import Way
from benchmarks.numpyro_programs import translated
from benchmarks.tasks import Task

__all__ = ["numpyro_way"]


def numpyro_way(task: Task) -> Way | None:
    """NumPyro's step, or None where JAX has no such device."""
    if task.device != "cpu" and jax.default_backend() == "cpu":
        return None
    jax.config.update("jax_default_matmul_precision", "float32")  # a GPU would take fewer bits, unlike torch
    model, guide, bound = translated(task.kind, task.program(), task.particles)
    svi = SVI(model, guide, numpyro.optim.Adam(task.learning_rate), bound)
    batches = [tuple(jnp.asarray(np.array(part)) for part in batch) for batch in task.batches]
    state, update, turning = svi.init(jax.random.key(0), *batches[0]), jax.jit(svi.update), itertools.cycle(batches)

    def step() -> float:
        nonlocal state
        state, loss = jax.block_until_ready(update(state, *next(turning)))
        return float(loss) / task.rows

    return Way(step)
