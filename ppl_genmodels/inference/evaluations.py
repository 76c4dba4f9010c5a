"""How many evaluations of the velocity continuous flows take, step by step of training.

Convention of this module: what is counted is the last solve of each continuous layer of the program before the step
ended, summed over the layers; a step that solves nothing, as flow matching's, repeats the count before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.inference.callbacks import Callback
from ppl_genmodels.transforms import Continuous

if TYPE_CHECKING:
    from ppl_genmodels.inference.training import Training

__all__ = ["Evaluations"]


class Evaluations(Callback):
    """Records the number of function evaluations of the continuous layers over training.

    Attributes:
        steps: The training steps, from 1.
        counts: The evaluations at each of them.

    References:
        Grathwohl and others (2019), FFJORD, section 5.

    Example:
        >>> import torch
        >>> from ppl_genmodels import fit
        >>> from ppl_genmodels.models import ContinuousFlow
        >>> evaluations = Evaluations()
        >>> flow = ContinuousFlow(data_dim=2, hidden=(8,), solver="midpoint", steps=5)
        >>> _ = fit(flow, torch.randn(20, 2), steps=3, callbacks=[evaluations], progress=False)
        >>> evaluations.steps, evaluations.counts
        ([1, 2, 3], [10, 10, 10])
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.counts: list[int] = []
        self._restored = False

    def on_start(self, training: Training) -> None:
        """Looks for continuous layers, and forgets an earlier run that this one does not resume.

        Raises:
            ProgramError: When there are none.
        """
        if not self._layers(training):
            raise ProgramError(
                "Evaluations: the program has no continuous layer whose evaluations could be counted. Remedy: leave "
                "this callback out, or transforms.Continuous in the program."
            )
        if not self._restored:
            self.steps, self.counts = [], []
        self._restored = False

    def after_step(self, training: Training) -> None:
        """Records."""
        self.steps.append(training.step)
        self.counts.append(sum(layer.evaluations for layer in self._layers(training)))

    def _layers(self, training: Training) -> list[Continuous]:
        return [module for module in training.program.modules() if isinstance(module, Continuous)]

    def state_dict(self) -> dict[str, Any]:
        """What was recorded so far."""
        return {"steps": list(self.steps), "counts": list(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What was recorded before a resume."""
        self.steps, self.counts = list(state["steps"]), list(state["counts"])
        self._restored = True
