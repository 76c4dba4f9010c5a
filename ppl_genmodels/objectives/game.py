"""The other player of an adversarial term: a critic, what it maximises, and how it is trained.

Convention of this module: the critic's parameters are no part of the program; its objective reads runs of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from ppl_genmodels.objectives.objective import Objective
    from ppl_genmodels.objectives.player import Player

__all__ = ["Game"]


@dataclass(frozen=True)
class Game:
    """A critic and how it is trained.

    Attributes:
        player: The critic, and what it scores.
        objective: What it maximises.
        steps: Its updates before each one of the program.
        optimizer: From parameters to its optimizer.
    """

    player: Player
    objective: Objective
    steps: int = 1
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None

    @property
    def critic(self) -> nn.Module:
        """The critic."""
        return self.player.critic

    @property
    def modules(self) -> list[nn.Module]:
        """What a fit keeps of it: the critic, and the earlier draws that it sees."""
        return [self.critic] if self.player.replay is None else [self.critic, self.player.replay]

    @torch.no_grad()
    def after_update(self) -> None:
        """Clips the critic's weights, if they are to be.

        References:
            Arjovsky, Chintala and Bottou (2017), Wasserstein GAN, algorithm 1.
        """
        largest = self.player.divergence.largest_weight
        if largest is not None:
            for parameter in self.critic.parameters():
                parameter.clamp_(-largest, largest)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer of the critic's parameters."""
        make = self.optimizer or partial(torch.optim.Adam, lr=4e-4, betas=(0.0, 0.9), fused=True)
        return make(self.critic.parameters())
