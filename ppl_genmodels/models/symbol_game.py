r"""The game of a program that draws symbols: data are whole numbers, and what is drawn is a vector over the kinds.

Convention of this module: on the data's side each symbol is its one-hot vector, so that both sides have the shape
(rows, length, symbols); the program's draws are relaxed for both players alike.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from torch import Tensor

from ppl_genmodels.objectives import Objective
from ppl_genmodels.objectives.player import Player
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.two_sides import Sides

__all__ = ["VECTORS", "SymbolPlayer", "between_symbols", "one_hot_like"]

VECTORS = "v"
"""The site of vectors over the kinds, whose largest entries are the symbols drawn."""


@dataclass(frozen=True)
class SymbolPlayer(Player):
    """A critic that sees symbols as vectors over their kinds."""

    def sides(self, run: Run) -> Sides:
        """What it is to tell apart."""
        symbols = super().sides(run).first[0]
        prior = {**run.prior.nodes, **run.prior.deterministic}
        drawn = prior[VECTORS]["value"]
        drawn = drawn.reshape(*symbols.shape, drawn.shape[-1])
        return Sides([one_hot_like(symbols, drawn)], [drawn])


def between_symbols(game: Objective) -> Objective:
    """An adversarial term at a site of symbols, which are drawn as the vectors of the site ``v``.

    Args:
        game: What :func:`~ppl_genmodels.objectives.adversarial` gave.
    """
    (weighted,) = game.weighted
    term, found = weighted.term, game.games[0]
    player = SymbolPlayer(**{field.name: getattr(found.player, field.name) for field in fields(found.player)})
    bound = replace(found.objective.weighted[0].term, values=player.bound)
    played = replace(found, player=player, objective=Objective.of(bound))
    return Objective.of(replace(term, values=player.values, game=played))


def one_hot_like(symbols: Tensor, like: Tensor) -> Tensor:
    r"""Symbols as one-hot vectors, in a graph too.

    Args:
        symbols: Numbers of kinds from 0, shape (\*batch).
        like: Of the shape (\*batch, kinds), dtype and device to be had.

    Example:
        >>> import torch
        >>> one_hot_like(torch.tensor([2, 0]), torch.zeros(2, 3))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    return like.new_zeros(like.shape).scatter(-1, symbols.long().unsqueeze(-1), 1.0)
