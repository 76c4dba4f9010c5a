"""A training step for a loop of one's own: an objective, a program, an optimizer, and how it is run.

Convention of this module: a step gives the objective before its update, in nats per datum, without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
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
        optimizer: What updates the parameters; several, each with its own, step together. An empty list leaves the
            program as it is and trains the critics of adversarial terms alone.
        mode: ``"trace"`` replays a traced graph; ``"inductor"`` also lowers it to compiled code; ``"off"`` runs
            eagerly; ``"auto"`` is ``"trace"``.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set; None when each batch is all.

    Returns:
        ``step(*data, **data)``, which makes one update and returns the objective before it, in nats per datum. Critics
        of adversarial terms are updated before, by their own optimizers, on the same data.

    Raises:
        OptionError: When the mode is unknown, or there is neither an optimizer nor a critic.

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
    if objective.games:
        prepared = prepared.with_critics(module for game in objective.games for module in game.modules)

    def updates(objective: Objective, optimizers: list[Optimizer], trained: Iterable[nn.Parameter]) -> Any:
        """An update that is replayed where it can be; it gives the loss before it."""
        lowered = mode == "inductor"
        compiled = CompiledGradient(objective, prepared, lowered, num_particles, data_size, trained=trained)

        def update_once(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
            values = None if mode == "off" else compiled(args, kwargs, count)
            if values is None:
                run = Run(prepared, args, kwargs, num_particles, count, data_size)
                loss = _eagerly(objective, run, optimizers)
            else:
                loss = values[0]
            for one in optimizers:
                update(one)
            return loss

        return update_once

    if not optimizers and not objective.games:
        raise OptionError(
            f"compile_step: there is no optimizer, and the objective {objective} has no critic. Remedy: "
            f"torch.optim.Adam(program.parameters())."
        )
    own = updates(objective, optimizers, (prepared.own_parameters if objective.games else prepared.parameters)())
    others = [
        (game, updates(game.objective, [game.make_optimizer()], list(game.critic.parameters())))
        for game in objective.games
    ]

    @torch.no_grad()
    def valued(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        return objective.assess(Run(prepared, args, kwargs, num_particles, count, data_size))[0]

    def step(*args: Any, **kwargs: Any) -> Tensor:
        nonlocal count
        for game, of_critic in others:
            for _ in range(game.steps):
                of_critic(args, kwargs)
                game.after_update()
        loss: Tensor = own(args, kwargs) if optimizers else valued(args, kwargs)
        count += 1
        return -loss

    return step


def _eagerly(objective: Objective, run: Run, optimizers: list[Optimizer]) -> Tensor:
    """Leaves the gradient of a run in the parameters; the loss."""
    for one in optimizers:
        one.zero_grad()
    loss, _ = objective.assess(run)
    loss.backward()
    return loss.detach()
