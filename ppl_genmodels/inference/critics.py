"""The other players of a fit: critics, each with an optimizer of its own, trained before each update of the program.

Convention of this module: a critic's update maximises its bound on runs of the program as it is; nothing of the program
changes. What a critic reports has the name of its game, such as ``critic[x]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_fabric import Fabric

from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.engine import Inputs
from ppl_genmodels.inference.gradient import Gradient, make_compiled
from ppl_genmodels.objectives.game import Game
from ppl_genmodels.program import Program

__all__ = ["Critic"]


class Critic:
    """One critic that is being trained.

    Attributes:
        game: The critic, what it maximises, and how often.
        optimizer: Its optimizer.

    Args:
        game: The game.
        program: The program, which holds the critic.
        fabric: Where to compute, and in which precision.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set.
        compile: How a step is run, as :func:`~ppl_genmodels.fit` has it.
        steps: Of the whole fit.
        name: What tells it from other critics, such as ``[x]``.
    """

    def __init__(
        self,
        game: Game,
        program: Program,
        fabric: Fabric,
        num_particles: int,
        data_size: int,
        compile: Mode,
        steps: int,
        name: str,
    ) -> None:
        self.name = f"critic{name}"
        self.game, self.optimizer = game, game.make_optimizer()
        trained = list(game.critic.parameters())
        compiled = make_compiled(
            compile, game.objective, program, fabric, num_particles, data_size, steps * game.steps, trained
        )
        self._gradient = Gradient(program, game.objective, self.optimizer, fabric, num_particles, data_size, compiled)

    def __call__(self, inputs: Inputs, step: int, anew: Callable[[], Inputs | None]) -> dict[str, float]:
        """Its updates before one of the program.

        Args:
            inputs: The batch.
            step: The training step, for schedules.
            anew: What draws another batch; None where the data cannot.

        Returns:
            The bound and the gradient's norm at the last of them.

        Raises:
            NonFiniteError: When the bound or its gradient is not finite.
        """
        found: dict[str, float] = {}
        for number in range(self.game.steps):
            found = self._gradient(inputs if number == 0 else anew() or inputs, step)
            self._gradient.update()
            self.game.after_update()
        found.pop("loss")
        (bound,) = self.game.objective.names
        return {self.name: found[bound], f"{self.name} gradient": found["gradient_norm"]}

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's; the weights are in the program's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""
        self.optimizer.load_state_dict(state)
