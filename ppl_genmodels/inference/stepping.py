"""A training step for a loop of one's own: an objective, a program, an optimizer, and how it is run.

Convention of this module: a step gives the objective before its update, in nats per datum, without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.compiled import MODES, CompiledGradient, Mode
from ppl_genmodels.inference.update import update
from ppl_genmodels.objectives import Objective, Run
from ppl_genmodels.program import as_program

__all__ = ["compile_step"]


def compile_step(
    objective: Objective,
    program: Any,
    optimizer: Optimizer | Sequence[Optimizer],
    mode: Mode = "auto",
    num_particles: int = 1,
    data_size: int | None = None,
) -> Callable[..., Tensor]:
    """A training step for a loop of one's own.

    Args:
        objective: What is maximised.
        program: Any object with ``.model`` and ``.guide``, or a :class:`~ppl_genmodels.Program`.
        optimizer: What updates the parameters; several, each with its own, step together.
        mode: ``"trace"`` replays a traced graph; ``"inductor"`` also lowers it to compiled code; ``"off"`` runs
            eagerly; ``"auto"`` is ``"trace"``.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set; None when each batch is all.

    Returns:
        ``step(*data, **data)``, which makes one update and returns the objective before it, in nats per datum.

    Raises:
        OptionError: When the mode is unknown.

    Example:
        >>> import torch
        >>> from ppl_genmodels.models import VAE
        >>> from ppl_genmodels.objectives import elbo
        >>> vae = VAE(data_dim=9, latent_dim=2)
        >>> step = compile_step(elbo(), vae, torch.optim.Adam(vae.parameters(), fused=True))
        >>> bool(step(torch.ones(4, 9)) < 0)
        True
    """
    if mode not in MODES:
        raise OptionError(f"mode is one of {', '.join(map(repr, MODES))}; got {mode!r}.")
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    prepared, count = as_program(program), 0
    compiled = CompiledGradient(objective, prepared, mode == "inductor", num_particles, data_size)

    def eagerly(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        for one in optimizers:
            one.zero_grad()
        loss, _ = objective.assess(Run(prepared, args, kwargs, num_particles, count, data_size))
        loss.backward()
        return loss.detach()

    def step(*args: Any, **kwargs: Any) -> Tensor:
        nonlocal count
        values = None if mode == "off" else compiled(args, kwargs, count)
        loss = eagerly(args, kwargs) if values is None else values[0]
        for one in optimizers:
            update(one)
        count += 1
        return -loss

    return step
