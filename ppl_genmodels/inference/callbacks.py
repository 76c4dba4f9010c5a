"""What may be added to training: clipping, averaging of weights, learning-rate schedules, early stopping.

Convention of this module: a callback has a hook for each moment of training, all of them empty by default, and a state
that a checkpoint keeps, so that a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ppl_genmodels.errors import OptionError

if TYPE_CHECKING:
    from ppl_genmodels.inference.training import Training

__all__ = ["EMA", "Callback", "EarlyStopping", "GradientClipping", "LearningRate"]


class Callback:
    """Called by the training loop; override the hooks that matter.

    Example:
        >>> class Count(Callback):
        ...     def after_step(self, training):
        ...         print(training.step)
    """

    def on_start(self, training: Training) -> None:
        """Before the first step, after a checkpoint was read."""

    def after_backward(self, training: Training) -> None:
        """When the gradient is there and the parameters are not yet updated."""

    def after_step(self, training: Training) -> None:
        """After each update."""

    def before_validation(self, training: Training) -> None:
        """Before the held-out data are evaluated."""

    def after_validation(self, training: Training) -> None:
        """When ``training.validation`` holds the new value."""

    def after_epoch(self, training: Training) -> None:
        """At the end of each epoch, after the validation."""

    def on_end(self, training: Training) -> None:
        """After the last step, also when training was interrupted."""

    def state_dict(self) -> dict[str, Any]:
        """What must be kept to resume: tensors, numbers, strings, lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""


class GradientClipping(Callback):
    """Scales the gradient down when its norm exceeds a bound.

    Args:
        max_norm: The bound on the Euclidean norm over all parameters.

    References:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, algorithm 1.

    Example:
        >>> GradientClipping(5.0).max_norm
        5.0
    """

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise OptionError(f"GradientClipping: max_norm must be positive, got {max_norm}.")
        self.max_norm = max_norm

    def after_backward(self, training: Training) -> None:
        """Clips."""
        torch.nn.utils.clip_grad_norm_(training.program.own_parameters(), self.max_norm)


class LearningRate(Callback):
    """Steps a scheduler of ``torch.optim.lr_scheduler`` for the program's optimizer, and one for each critic's.

    Args:
        make: From an optimizer to its scheduler.
        every: Whether it steps after each ``"step"`` or each ``"epoch"``.

    Raises:
        OptionError: At the start, when the scheduler waits for a metric.

    Example:
        >>> from torch.optim.lr_scheduler import CosineAnnealingLR
        >>> schedule = LearningRate(lambda optimizer: CosineAnnealingLR(optimizer, T_max=1000))
    """

    def __init__(self, make: Callable[[torch.optim.Optimizer], LRScheduler], every: str = "step") -> None:
        if every not in ("step", "epoch"):
            raise OptionError(f"LearningRate: every is 'step' or 'epoch', got {every!r}.")
        self.make, self.every = make, every
        self._schedulers: list[LRScheduler] = []
        self._restored: list[dict[str, Any]] | None = None

    def on_start(self, training: Training) -> None:
        """Builds the schedulers."""
        optimizers = [training.optimizer, *(critic.optimizer for critic in training.critics)]
        restored = [None for _ in optimizers] if self._restored is None else self._restored
        self._schedulers = [self._built(*pair) for pair in zip(optimizers, restored, strict=True)]
        self._restored = None

    def _built(self, optimizer: torch.optim.Optimizer, restored: dict[str, Any] | None) -> LRScheduler:
        """A scheduler; a restored one leaves the optimizer as the checkpoint had it."""
        groups = optimizer.param_groups
        settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        scheduler = self.make(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise OptionError(
                "LearningRate: ReduceLROnPlateau waits for a metric. Remedy: a scheduler that counts steps, such as "
                "CosineAnnealingLR, or early_stopping."
            )
        if restored is not None:
            scheduler.load_state_dict(restored)
            for group, setting in zip(groups, settings, strict=True):
                group.update(setting)
        return scheduler

    def after_step(self, training: Training) -> None:
        """Steps them."""
        if self.every == "step":
            self._step()

    def after_epoch(self, training: Training) -> None:
        """Steps them."""
        if self.every == "epoch":
            self._step()

    def _step(self) -> None:
        for scheduler in self._schedulers:
            scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """The schedulers' own states, their numbers and lists."""
        plain = (bool, int, float, str, list, type(None))
        states = [scheduler.state_dict() for scheduler in self._schedulers]
        return {"schedulers": [{n: v for n, v in state.items() if isinstance(v, plain)} for state in states]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Kept until the schedulers are built."""
        self._restored = list(state["schedulers"])


class EMA(Callback):
    """An exponential moving average of the weights, used for validation and left in the program at the end.

    Args:
        decay: Share of the old average kept at each step, between 0 and 1.

    References:
        Polyak and Juditsky (1992), Acceleration of stochastic approximation by averaging.

    Example:
        >>> EMA(0.999).decay
        0.999
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise OptionError(f"EMA: decay must lie between 0 and 1, got {decay}.")
        self.decay = decay
        self._update = get_ema_multi_avg_fn(decay)
        self._average: list[Tensor] = []
        self._restored = False

    def on_start(self, training: Training) -> None:
        """Starts from the present weights, unless an average was restored."""
        weights = [p.detach() for p in training.program.own_parameters()]
        if self._restored:
            self._average = [a.to(w) for a, w in zip(self._average, weights, strict=True)]
        else:
            self._average = [w.clone() for w in weights]
        self._restored = False

    def after_step(self, training: Training) -> None:
        """Moves the average."""
        with torch.no_grad():
            current = [p.detach() for p in training.program.own_parameters()]
            self._update(self._average, current, training.step)

    def before_validation(self, training: Training) -> None:
        """Puts the average in."""
        self._swap(training)

    def after_validation(self, training: Training) -> None:
        """Puts the weights back."""
        self._swap(training)

    def on_end(self, training: Training) -> None:
        """Leaves the average in the program."""
        self._swap(training)

    def _swap(self, training: Training) -> None:
        for parameter, average in zip(training.program.own_parameters(), self._average, strict=True):
            parameter.data, average.data = average.data, parameter.data

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return {"average": list(self._average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The average."""
        self._average, self._restored = list(state["average"]), True


class EarlyStopping(Callback):
    """Stops when the validation objective has not risen for some epochs, and goes back to its best weights.

    Args:
        patience: Epochs without a rise that are tolerated, at least 1.

    Example:
        >>> EarlyStopping(patience=10).best
        -inf
    """

    def __init__(self, patience: int) -> None:
        if patience < 1:
            raise OptionError(f"EarlyStopping: patience must be at least 1, got {patience}.")
        self.patience = patience
        self.best, self.waited = -math.inf, 0
        self._weights: dict[str, Tensor] = {}
        self._restored = False

    def on_start(self, training: Training) -> None:
        """Checks that there is something to watch; a run that had stopped stays so, unless the patience has grown.

        Raises:
            OptionError: When the run has no validation data.
        """
        if training.validation_rows is None:
            raise OptionError(
                "early stopping watches the validation objective and there is no validation data. "
                "Remedy: pass validation=0.1, or held-out data."
            )
        if not self._restored:
            self.best, self.waited, self._weights = -math.inf, 0, {}
        self._restored = False
        self._stop_when_tired(training)

    def after_validation(self, training: Training) -> None:
        """Remembers the weights when they are the best so far."""
        if training.validation > self.best:
            self.best, self.waited = training.validation, 0
            self._weights = {n: v.detach().clone() for n, v in training.program.state_dict().items()}
            return
        self.waited += 1
        self._stop_when_tired(training)

    def _stop_when_tired(self, training: Training) -> None:
        if self.waited >= self.patience:
            training.stop(f"no rise of the validation objective in {self.patience} epochs")

    def on_end(self, training: Training) -> None:
        """Goes back to the best weights."""
        if self._weights:
            training.program.load_state_dict(self._weights)
            training.validation = self.best

    def state_dict(self) -> dict[str, Any]:
        """Best value, epochs waited, best weights."""
        return {"best": self.best, "waited": self.waited, "weights": dict(self._weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Best value, epochs waited, best weights."""
        self.best, self.waited = state["best"], state["waited"]
        self._weights, self._restored = dict(state["weights"]), True
