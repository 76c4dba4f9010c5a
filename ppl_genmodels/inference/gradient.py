"""The gradient of one batch, by a traced graph where there is one and eagerly otherwise.

Convention of this module: values and gradients are checked before anything is updated. The traced graph draws the same
random numbers as the eager run, so that which of them was used cannot be told from the numbers.
"""

from __future__ import annotations

import math

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference.compiled import MODES, CompiledGradient, Mode
from ppl_genmodels.inference.engine import Inputs, LossModule, blame, blame_gradient
from ppl_genmodels.objectives import Objective
from ppl_genmodels.program import Program

__all__ = ["Gradient", "make_compiled"]

WORTH_TRACING = 200
"""With ``compile="auto"`` a run of so many steps is traced; a shorter one would not win back the time it takes."""


class Gradient:
    """Leaves the gradient of the loss in a program's parameters and gives the values.

    Args:
        program: The program.
        objective: What is maximised.
        optimizer: What will update the parameters.
        fabric: Where to compute, and in which precision.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set.
        compiled: The traced gradient, or None to run eagerly.
    """

    def __init__(
        self,
        program: Program,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        fabric: Fabric,
        num_particles: int,
        data_size: int,
        compiled: CompiledGradient | None,
    ) -> None:
        self.program, self.objective, self.fabric = program, objective, fabric
        self.loss = LossModule(program, objective, num_particles, data_size)
        self.compiled, self._plain = compiled, optimizer
        self._module, self.optimizer = fabric.setup(self.loss, optimizer)

    def __call__(self, inputs: Inputs, step: int) -> dict[str, float]:
        """Takes the gradient.

        Returns:
            The loss, each term's mean, and the gradient's norm.

        Raises:
            NonFiniteError: When the loss or its gradient is not finite.
            ProgramError: When the objective depends on no parameter.
        """
        before = torch.get_rng_state() if self.compiled is not None else None
        values = self._replay(inputs, step)
        if values is not None and not bool(values[0].isfinite()) and before is not None:
            torch.set_rng_state(before)  # the eager run below draws the same numbers and names the site
            values = None
        if values is None:
            values = self._run(inputs, step)
        found = dict(zip(("loss", *self.objective.names), values.tolist(), strict=True))
        self.fabric.strategy.precision.unscale_gradients(self._plain)
        gradients = [p.grad for p in self.program.parameters() if p.grad is not None]
        found["gradient_norm"] = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(found["gradient_norm"]) and not self._scaler_copes():
            raise blame_gradient(self.program, step)
        return found

    def _replay(self, inputs: Inputs, step: int) -> Tensor | None:
        if self.compiled is None:
            return None
        with self.fabric.autocast():
            return self.compiled(inputs.args, inputs.kwargs, step)

    def _run(self, inputs: Inputs, step: int) -> Tensor:
        loss, terms = self._module(inputs, step)
        if not math.isfinite(loss.item()) and self.loss.last_run is not None:
            raise blame(self.loss.last_run, {name: value.item() for name, value in terms.items()}, step)
        if not loss.requires_grad:
            raise ProgramError(
                f"the objective {self.objective} does not depend on any parameter. Remedy: add a term that does, such "
                f"as log_lik()."
            )
        self.loss.last_run = None
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        return torch.stack([loss.detach(), *terms.values()])

    def _scaler_copes(self) -> bool:
        """Whether half precision's loss scaling skips this update and tries a smaller scale."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return scaler is not None and scaler.get_scale() > 1.0


def make_compiled(
    mode: Mode, objective: Objective, program: Program, fabric: Fabric, num_particles: int, data_size: int, steps: int
) -> CompiledGradient | None:
    """The traced gradient of a mode, or None where the run is to be eager.

    ``"auto"`` traces a run of at least :data:`WORTH_TRACING` steps in one process, unless losses are scaled.

    Raises:
        OptionError: When the mode is unknown, or was asked for where it cannot serve.
    """
    if mode not in MODES:
        raise OptionError(f"compile is one of {', '.join(map(repr, MODES))}; got {mode!r}.")
    alone = fabric.world_size == 1 and getattr(fabric.strategy.precision, "scaler", None) is None
    if mode in ("trace", "inductor") and not alone:
        raise OptionError(
            f"compile={mode!r} serves one process without loss scaling; here are {fabric.world_size} processes. "
            f"Remedy: compile='off'."
        )
    if mode == "off" or not alone or (mode == "auto" and steps < WORTH_TRACING):
        return None
    return CompiledGradient(objective, program, mode == "inductor", num_particles, data_size)
