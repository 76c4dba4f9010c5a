"""One training step on whatever device: the objective as a module that Lightning Fabric can place, cast and replicate.

Convention of this module: a step is checked before it is taken; a step that is not finite changes nothing.
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_genmodels.errors import NonFiniteError
from ppl_genmodels.objectives import Objective, Run
from ppl_genmodels.program import Program

__all__ = ["Inputs", "LossModule", "blame", "blame_gradient"]


class Inputs:
    """The data of one batch, closed to Fabric, which in mixed precision would round them to half.

    Args:
        args: By position.
        kwargs: By name.
        weight: Of their mean, where several processes share the batch; these weights average to one.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], weight: float = 1.0) -> None:
        self.args, self.kwargs, self.weight = args, kwargs, weight


class LossModule(nn.Module):
    """The loss of a program under an objective, as a module whose call is one run.

    Args:
        program: The program.
        objective: What is maximised.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set.
    """

    def __init__(self, program: Program, objective: Objective, num_particles: int, data_size: int) -> None:
        super().__init__()
        self.program, self.objective = program, objective
        self.num_particles, self.data_size = num_particles, data_size
        self.last_run: Run | None = None

    def forward(self, inputs: Inputs, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and each term's mean, in nats per datum."""
        with pyro.validation_enabled(False):
            run = Run(self.program, inputs.args, inputs.kwargs, self.num_particles, step, self.data_size)
            self.last_run = run
            return self.objective.assess(run)


def blame(run: Run, terms: dict[str, float], step: int) -> NonFiniteError:
    """The error for an objective that is not finite: names the terms and the first site at fault."""
    bad = [name for name, value in terms.items() if not torch.isfinite(torch.tensor(value))]
    return NonFiniteError(
        f"step {step}: the objective is not finite (term {', '.join(bad) or 'weighted sum'}); {_culprit(run)}. The "
        f"update was not made. Remedy: a smaller learning rate, callbacks=[GradientClipping(...)], a scale bounded "
        f"away from zero, or check the data of that site."
    )


def blame_gradient(program: Program, step: int) -> NonFiniteError:
    """The error for a gradient that is not finite: names the parameters."""
    bad = [
        name
        for name, parameter in program.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]
    shown = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    where = f"for parameters {shown}" if bad else "because its norm overflows, though each entry is finite"
    return NonFiniteError(
        f"step {step}: the objective is finite and its gradient is not, {where}. The update was not "
        f"made. Remedy: a smaller learning rate, or a function with a bounded derivative where the site is computed."
    )


def _culprit(run: Run) -> str:
    for role, traced in (("guide", run.guide), ("model", run.model)):
        for name, node in traced.nodes.items():
            value = node["value"]
            if value.is_floating_point() and not node["is_observed"] and not value.isfinite().all():
                return f"first at site '{name}' in the {role}: its value is not finite"
            if not run.site_log_prob(node).isfinite().all():
                return f"first at site '{name}' in the {role}: its log-density is not finite"
    return "every site's value and log-density is finite"
