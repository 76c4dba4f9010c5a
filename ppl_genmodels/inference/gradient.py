"""The gradient of one batch, by a traced graph where there is one and eagerly otherwise.

Convention of this module: values and gradients are checked before anything is updated. The traced graph draws the same
random numbers as the eager run, so that which of them was used cannot be told from the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference.auto import AutoGradient
from ppl_genmodels.inference.average import GradientAverage, check_all_used
from ppl_genmodels.inference.compiled import MODES, CompiledGradient, Mode
from ppl_genmodels.inference.engine import Inputs, LossModule, blame, blame_gradient
from ppl_genmodels.inference.processes import Processes
from ppl_genmodels.inference.update import update
from ppl_genmodels.objectives import Objective
from ppl_genmodels.program import Program

__all__ = ["Compiled", "Gradient", "make_compiled"]

Compiled = CompiledGradient | AutoGradient


class Gradient:
    """Leaves the gradient of the loss in a program's parameters, gives the values, and makes the update.

    Where several processes share a batch, both are those of the whole batch, in every process: an eager run leaves the
    averaging to Fabric's strategy, which does it while the gradient is computed; a traced one is averaged afterwards.

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
        compiled: Compiled | None,
    ) -> None:
        self.program, self.objective, self.fabric = program, objective, fabric
        self.loss = LossModule(program, objective, num_particles, data_size)
        self.compiled, self._plain = compiled, optimizer
        self._module, self.optimizer = fabric.setup(self.loss, optimizer)
        self._processes = Processes(fabric)
        self._eager_loss: Tensor | None = None
        afterwards = compiled is not None and self._processes.count > 1
        self._average = GradientAverage(program, self._processes) if afterwards else None

    def __call__(self, inputs: Inputs, step: int) -> dict[str, float]:
        """Takes the gradient.

        Returns:
            The loss, each term's mean, and the gradient's norm.

        Raises:
            NonFiniteError: When the loss or its gradient is not finite.
            ProgramError: When the objective depends on no parameter.
        """
        names = ("loss", *self.objective.names)
        if self._average is not None:
            self._average.before_run()
        values = self._processes.mean(lambda: self._values(inputs, step), len(names), inputs.weight)
        self._take_gradient(inputs.weight)
        found = dict(zip(names, values.tolist(), strict=True))
        self.fabric.strategy.precision.unscale_gradients(self._plain)
        trained = (p for group in self._plain.param_groups for p in group["params"])
        gradients = [p.grad for p in trained if p.grad is not None]
        found["gradient_norm"] = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(found["gradient_norm"]) and not self._scaler_copes():
            raise blame_gradient(self.program, step)
        return found

    def _values(self, inputs: Inputs, step: int) -> Tensor:
        """This process's values: from the graph, which leaves the gradient too, or from an eager run."""
        before = torch.get_rng_state() if self.compiled is not None else None
        values = self._replay(inputs, step)
        if values is not None and not bool(values[0].isfinite()) and before is not None:
            torch.set_rng_state(before)  # the eager run below draws the same numbers and names the site
            values = None
        return self._run(inputs, step) if values is None else values

    def _replay(self, inputs: Inputs, step: int) -> Tensor | None:
        if self.compiled is None:
            return None
        scaler = self._scaler
        scale = None if scaler is None else scaler.scale(torch.ones((), device=self.fabric.device))
        return self.compiled(inputs.args, inputs.kwargs, step, scale)

    def _run(self, inputs: Inputs, step: int) -> Tensor:
        if self._average is None:
            loss, terms = self._module(inputs, step)
        else:  # the strategy's module would wait for processes that replay a graph
            with self.fabric.autocast():
                loss, terms = self.loss(inputs, step)
        if not math.isfinite(loss.item()) and self.loss.last_run is not None:
            raise blame(self.loss.last_run, {name: value.item() for name, value in terms.items()}, step)
        if not loss.requires_grad:
            raise ProgramError(
                f"the objective {self.objective} does not depend on any parameter. Remedy: add a term that does, such "
                f"as log_lik()."
            )
        self.loss.last_run, self._eager_loss = None, loss
        return torch.stack([loss.detach(), *terms.values()])

    def _take_gradient(self, weight: float) -> None:
        """The gradient of an eager run, and the average over processes."""
        loss, self._eager_loss = self._eager_loss, None
        if loss is not None:
            self.optimizer.zero_grad()
            self.fabric.backward(loss if self._average is not None or weight == 1.0 else loss * weight)
        if self._average is not None:
            self._average(weight)
        elif self._processes.count > 1:
            check_all_used(self.program, self._module)

    def update(self) -> None:
        """Makes the update."""
        if self._scaler is None:
            update(self._plain)
        else:
            self.optimizer.step()

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """What scales the loss of half precision up, so that small gradients do not vanish."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def _scaler_copes(self) -> bool:
        """Whether half precision's loss scaling skips this update and tries a smaller scale."""
        return self._scaler is not None and self._scaler.get_scale() > 1.0


def make_compiled(
    mode: Mode,
    objective: Objective,
    program: Program,
    fabric: Fabric,
    num_particles: int,
    data_size: int,
    steps: int,
    trained: Iterable[nn.Parameter] | None = None,
) -> Compiled | None:
    """The traced gradient of a mode, or None where the run is to be eager; of the program's own parameters by default.

    Raises:
        OptionError: When the mode is unknown.
    """
    if mode not in MODES:
        raise OptionError(f"compile is one of {', '.join(map(repr, MODES))}; got {mode!r}.")
    if mode == "off":
        return None
    lowered = mode == "inductor"
    trained = program.own_parameters() if trained is None else trained
    compiled = CompiledGradient(objective, program, lowered, num_particles, data_size, fabric.autocast, trained)
    return AutoGradient(compiled, steps) if mode == "auto" else compiled
