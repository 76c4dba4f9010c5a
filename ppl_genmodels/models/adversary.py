"""Programs that are fitted against a critic: where the critic is kept, and the game it plays.

Convention of this module: the critic is no part of the program. It is an attribute outside of the module tree, so that
the program's parameters and saved weights are those that generate and infer; it goes along to another device or dtype.
A fit trains it, its checkpoints keep it, and a program that is read from a folder has a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError, UnknownNameError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives import (
    GradientPenalty,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Objective,
    Wasserstein,
    adversarial,
)
from ppl_genmodels.objectives.divergences import Divergence

__all__ = ["DIVERGENCES", "Adversary"]

DIVERGENCES: dict[str, Callable[[], Divergence]] = {
    "nonsaturating": NonSaturating,
    "minimax": Minimax,
    "least_squares": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
}
"""Divergences by the names that programs take."""


class Adversary(nn.Module):
    """A program with a critic beside it.

    Attributes:
        critic: The critic.
    """

    critic: nn.Module

    def keep_critic(
        self,
        critic: nn.Module,
        divergence: str,
        gradient_penalty: float | None,
        critic_steps: int | None,
        critic_rate: float,
    ) -> None:
        """Keeps a critic, and how it plays.

        Args:
            critic: The critic.
            divergence: One of :data:`DIVERGENCES`.
            gradient_penalty: Weight of the penalty of the critic's slope: of Wasserstein's for slopes other than one
                between data and draws, of the others' for slopes at the data. None for 10 and 0.
            critic_steps: Updates of the critic before each of the program; None for Wasserstein's 5 and the others' 1.
            critic_rate: The learning rate of its Adam, without momentum.

        Raises:
            OptionError: When a number is negative, or no positive integer where one is needed.
            UnknownNameError: When there is no such divergence.
        """
        owner = type(self).__name__
        if divergence not in DIVERGENCES:
            raise UnknownNameError("divergence", divergence, DIVERGENCES, f"of {owner}")
        if gradient_penalty is not None and gradient_penalty < 0:
            raise OptionError(f"{owner}: gradient_penalty={gradient_penalty}, expected 0 or more. Remedy: 10.0.")
        if not critic_rate > 0:
            raise OptionError(f"{owner}: critic_rate={critic_rate}, expected a positive number. Remedy: 4e-4.")
        slopes = divergence == "wasserstein"
        weight = (10.0 if slopes else 0.0) if gradient_penalty is None else float(gradient_penalty)
        steps = (5 if slopes else 1) if critic_steps is None else check_size(owner, "critic_steps", critic_steps)
        self._played: dict[str, Any] = {
            "divergence": Wasserstein(weight) if slopes else DIVERGENCES[divergence](),
            "regularizers": () if slopes or not weight else (GradientPenalty(weight, target=0.0, at="first"),),
            "critic_steps": steps,
            "optimizer": partial(torch.optim.Adam, lr=critic_rate, betas=(0.0, 0.9), fused=True),
        }
        vars(self)["critic"] = critic  # no submodule, whose parameters would be the program's own

    def game(self, *sites: str) -> Objective:
        """The adversarial term at some sites, which an objective has with a minus."""
        return adversarial(*sites, self.critic, **self._played)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Adversary:
        super()._apply(fn, recurse)
        self.critic._apply(fn, recurse)
        return self
