"""A critic at some sites of a program: what it scores, and what either player makes of its scores.

Convention of this module: values have the particles and the rows in one dim, the first, shape (particles * rows,
\\*event); scores are of that length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import for_gradient
from ppl_genmodels.objectives.divergences import Divergence
from ppl_genmodels.objectives.past_samples import PastSamples
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import called
from ppl_genmodels.objectives.two_sides import Sides, two_sides

__all__ = ["Player", "Regularizer"]

Regularizer = Callable[[Callable[..., Tensor], Sequence[Tensor], Sequence[Tensor]], Tensor]
"""From the critic and both sides' values to what its bound is lessened by."""


@dataclass(frozen=True)
class Player:
    """A critic, what it scores, and what its scores are made of.

    Attributes:
        sites: Names of the sites whose values it scores.
        critic: The critic.
        divergence: What it estimates.
        penalties: What its bound is lessened by.
        replay: What mixes earlier draws into those that it is trained on.
    """

    sites: tuple[str, ...]
    critic: nn.Module
    divergence: Divergence
    penalties: tuple[Regularizer, ...]
    replay: PastSamples | None = None

    def values(self, run: Run) -> Tensor:
        """The estimate of the divergence, with the gradient of the program's cost."""
        scores = self.scores(self.sides(run))
        estimate, cost = self.divergence.bound(*scores), self.divergence.cost(*scores)
        return (cost + (estimate - cost).detach()).reshape(run.num_particles, -1)

    def bound(self, run: Run) -> Tensor:
        """What the critic maximises, on draws that no gradient passes through."""
        with torch.no_grad():
            sides = self.sides(run)
        if self.replay is not None:
            sides = Sides(sides.first, self.replay(sides.second))
        found = self.divergence.bound(*self.scores(sides))
        for penalty in self.penalties:
            found = found - penalty(self.critic, sides.first, sides.second)
        return found.reshape(run.num_particles, -1)

    def sides(self, run: Run) -> Sides:
        """What it is to tell apart; draws are relaxed where the program's are, also where no gradient is taken."""
        with for_gradient():
            return two_sides(run, self.sites, called("adversarial", self.sites))

    def scores(self, sides: Sides) -> tuple[Tensor, Tensor]:
        """In one pass for both sides, so that a critic that normalizes its batch sees them alike."""
        both = self.critic(*(torch.cat(pair) for pair in zip(*sides, strict=True)))
        rows = len(sides.first[0])
        scores = both.squeeze(-1) if both.dim() == 2 and both.shape[-1] == 1 else both
        if scores.shape != (2 * rows,):
            raise ProgramError(
                f"{called('adversarial', self.sites)}: the critic gave scores of shape {tuple(both.shape)} for "
                f"{2 * rows} values, expected ({2 * rows},) or ({2 * rows}, 1). Remedy: one score for each value."
            )
        first, second = scores.split(rows)
        return first, second
