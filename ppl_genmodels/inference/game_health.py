r"""The health of games, measured while they are trained.

Convention of this module: measures are taken on the same rows of the data and with the same random numbers each time,
so that their course is that of the game; training draws the same numbers with and without them. They are columns of the
history, such as ``game[x] accuracy``, NaN at the steps between.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyro
import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.callbacks import Callback
from ppl_genmodels.inference.game_failures import game_failures
from ppl_genmodels.inference.game_measures import MEASURES, critic_measures, sample_measures
from ppl_genmodels.inference.state import placing
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.run import Run

if TYPE_CHECKING:
    from ppl_genmodels.inference.training import Training

__all__ = ["GameHealth", "GameWarning"]


class GameWarning(UserWarning):
    """A game that is being trained has failed in a way that has a remedy."""


class GameHealth(Callback):
    r"""Measures the games of a fit, and warns when the critic wins, the samples collapse or stay away, or all cycles.

    Each failure of each game is warned of once, when it is first found; a game may recover, and ``present`` says how it
    stood at the last measures. Columns of the history are, for each game:

    - ``accuracy``, ``calibration``: the share of values that the critic tells rightly, and how far its probabilities
      are from the shares, where it gives any;
    - ``push``: how far the gradient that the program gets leads to the other side, in parts of the divergence;
    - ``spread``, ``duplicates``, ``precision``, ``coverage``: the samples' variance over the data's, copies among them,
      the share that lies where data lie, and the share of the data that have a sample near them;
    - ``course``: how far the samples' mean is from the data's, along one direction, in standard deviations;
    - ``modes``, ``data modes``: how many are found among samples and among data, where modes are given.

    Beside them the history has the estimated divergence, ``adversarial[x]``, and the norms of both players' gradients.

    Args:
        every: Steps from one measure to the next.
        patience: How many measures in a row must show a failure.
        rows: Of the data that are looked at, and as many samples.
        modes: What a mode is: centres, shape (modes, \*event), with a ``radius``; or a classifier, from values to
            labels, shape (rows,), or to scores, shape (rows, classes).
        radius: How far a value may be from the centre that it is of, three standard deviations by custom.

    Raises:
        OptionError: When a number is no positive integer, centres have no radius, or, at the start, the objective has
            no adversarial term.

    References:
        Goodfellow (2016), NIPS 2016 Tutorial: Generative Adversarial Networks, section 5; Mescheder, Geiger and Nowozin
        (2018), Which Training Methods for GANs Do Actually Converge, section 2, for cycles.

    Example:
        >>> health = GameHealth(every=100, modes=torch.tensor([[-1.0], [1.0]]), radius=0.3)
        >>> health.present
        ()
    """

    def __init__(
        self,
        every: int = 100,
        patience: int = 10,
        rows: int = 512,
        modes: Tensor | Callable[[Tensor], Tensor] | None = None,
        radius: float | None = None,
    ) -> None:
        sizes = {"every": every, "patience": patience, "rows": rows}
        self.every, self.patience, self.rows = (check_size("GameHealth", name, size) for name, size in sizes.items())
        self._modes = _mode_count(modes, radius)
        self.warned: dict[str, int] = {}
        """The failures warned of, such as ``"game[x] collapse"``, and the step at which each was found."""
        self.present: tuple[str, ...] = ()
        """The failures that the last measures show."""
        self._measured: dict[str, list[dict[str, float]]] = {}

    def on_start(self, training: Training) -> None:
        """Takes back the measures of a run that is resumed."""
        players = _players(training)
        if not players:
            raise OptionError(
                "GameHealth: the objective has no adversarial term. Remedy: leave it out, or objectives.adversarial()."
            )
        self._measured = {name: _read(training.history, name) for name in players}

    def after_step(self, training: Training) -> None:
        """Measures, if it is time, and warns."""
        due, names = training.step % self.every == 0, (*MEASURES, *(() if self._modes is None else MODES))
        present = []
        for game, player in _players(training).items():
            found = self._measure(training, player) if due else dict.fromkeys(names, math.nan)
            training.history[-1].update({f"{game} {name}": found[name] for name in names})
            if due:
                self._measured[game].append(found)
                failures = game_failures(self._measured[game], self.patience)
                self._warn(training.step, game, failures)
                present += [f"{game} {failure}" for failure in failures]
        self.present = tuple(present) if due else self.present

    def _measure(self, training: Training, player: Any) -> dict[str, float]:
        program, device = training.program, training.fabric.device
        program.eval()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), training.fabric.autocast():
            torch.manual_seed(0)
            rows = training.batches.rows
            args, kwargs = placing(program)(rows.take(torch.randperm(len(rows))[: self.rows].tolist()))
            with pyro.validation_enabled(False), torch.no_grad():
                run = Run(program, args, kwargs, 1, training.step, len(rows))
                found, samples, data = critic_measures(player, run)
                found |= sample_measures(samples, data, self._modes)
        program.train()
        return found

    def _warn(self, step: int, game: str, failures: dict[str, str]) -> None:
        for failure, sentence in failures.items():
            if f"{game} {failure}" not in self.warned:
                self.warned[f"{game} {failure}"] = step
                warnings.warn(GameWarning(f"{game}, step {step}: {sentence}"), stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """What was warned of; the measures are in the history."""
        return {"warned": dict(self.warned)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What was warned of."""
        self.warned = dict(state["warned"])


MODES = ("modes", "data modes")


def _players(training: Training) -> dict[str, Any]:
    """The critics of all games, by the game's name."""
    objective = training.objective
    return {f"game{name}": game.player for name, game in zip(objective.game_names, objective.games, strict=True)}


def _read(history: list[dict[str, float]], game: str) -> list[dict[str, float]]:
    """The measures in a history."""
    rows = [{name.removeprefix(f"{game} "): value for name, value in row.items()} for row in history]
    return [row for row in rows if not math.isnan(row.get("accuracy", math.nan))]


def _mode_count(modes: Any, radius: float | None) -> Callable[[Tensor], int] | None:
    if modes is None:
        return None
    if isinstance(modes, Tensor):
        if radius is None or not radius > 0:
            raise OptionError(f"GameHealth: radius={radius} beside centres, expected a positive number.")
        return lambda values: _near(values, modes, radius)
    return lambda values: _labels(modes(values))


def _near(values: Tensor, centres: Tensor, radius: float) -> int:
    distance, nearest = torch.cdist(values.flatten(1).float(), centres.flatten(1).to(values.device).float()).min(1)
    return len(nearest[distance <= radius].unique())


def _labels(scores: Tensor) -> int:
    return len((scores.argmax(-1) if scores.dim() > 1 else scores).unique())
