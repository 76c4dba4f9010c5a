"""A training step with Pyro: as its tutorials write it, with one optimizer of torch, and with its JIT.

Convention of this module: Pyro keeps parameters in one global store; each way has a store of its own, changed with
the turn and not timed. Argument validation is off, as in Pyro's tutorial on the variational autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import SVI, JitTrace_ELBO, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoGuide

from benchmarks.interleaved import Way
from benchmarks.tasks import Kind, Task

__all__ = ["jit", "one_optimizer", "tutorial"]

BOUNDS: dict[Kind, Callable[..., Any]] = {
    "vae": TraceMeanField_ELBO,
    "chain": TraceMeanField_ELBO,
    "regression": Trace_ELBO,  # its closed-form divergence leaves out an automatic guide's change of variables
    "iwae": partial(RenyiELBO, alpha=0),
}
JITTED: frozenset[Kind] = frozenset({"vae", "chain", "regression"})


def tutorial(task: Task) -> Way:
    """``SVI`` with ``pyro.optim.Adam``, which keeps one optimizer of torch for each parameter.

    Example:
        >>> from benchmarks.tasks import vae
        >>> way = tutorial(vae(9, 4, 2, rows=3))
        >>> with way.around():
        ...     way.step() > 0
        True
    """
    return _svi(task, BOUNDS[task.kind])


def jit(task: Task) -> Way | None:
    """The same with the bound under Pyro's JIT, divergences from draws; it has no importance-weighted one.

    ``JitTraceMeanField_ELBO`` of Pyro 1.9 looks for its graph under another name than it keeps it and so traces at each
    step: the bound in closed form would be some thirty times slower than this one.
    """
    return _svi(task, partial(JitTrace_ELBO, ignore_jit_warnings=True)) if task.kind in JITTED else None


def one_optimizer(task: Task) -> Way:
    """Pyro's bound with one fused Adam of torch over all parameters.

    The gradient is of the sum over rows, as Pyro takes it; Adam does not mind the factor.
    """
    local = partial(pyro.settings.context, module_local_params=True)
    with local():
        program = task.program()
    bound, batches = _bound(task, BOUNDS[task.kind]), task.rotation()
    optimizer = torch.optim.Adam(program.parameters(), task.learning_rate, fused=True)
    model = _registered(program) if task.kind == "iwae" else program.model

    def differentiated(*batch: torch.Tensor) -> float:
        if task.kind == "iwae":  # this bound gives no loss to differentiate, and a gradient to known parameters only
            return float(bound.loss_and_grads(model, program.guide, *batch))
        loss = bound.differentiable_loss(model, program.guide, *batch)
        loss.backward()
        return float(loss.detach())

    def step() -> float:
        optimizer.zero_grad()
        loss = differentiated(*next(batches))
        optimizer.step()
        return loss / task.rows

    return Way(step, local)


def _svi(task: Task, bound: Callable[..., Any]) -> Way:
    program, batches = task.program(), task.rotation()
    guided = isinstance(program.guide, AutoGuide)  # which is a Pyro module and registers its parameters itself
    adam = pyro.optim.Adam({"lr": task.learning_rate})
    store: dict[str, dict[str, Any]] = {"params": {}, "constraints": {}}
    svi = SVI(program.model if guided else _registered(program), program.guide, adam, _bound(task, bound))

    return Way(lambda: svi.step(*next(batches)) / task.rows, lambda: pyro.get_param_store().scope(store))


def _registered(program: Any) -> Callable[..., None]:
    """The model with its networks, and the guide's, made known to Pyro."""

    def model(*batch: torch.Tensor) -> None:
        pyro.module("program", program)
        program.model(*batch)

    return model


def _bound(task: Task, bound: Callable[..., Any]) -> Any:
    if task.particles == 1:
        return bound()
    return bound(num_particles=task.particles, vectorize_particles=True, max_plate_nesting=1)
