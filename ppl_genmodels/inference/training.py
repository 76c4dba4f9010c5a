"""The training loop: epochs over batches, validation, history, checkpoints, and an exact resume.

Convention of this module: a step is counted when its update was made. Everything random draws from one state of each
process, seeded at the start and kept in the checkpoint; the caller's random state is left as it was. Processes that
share the batches record the same numbers and stop at the same step; the first one writes.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import Progress
from torch import Tensor

from ppl_genmodels.data.batches import Batches, LoaderBatches
from ppl_genmodels.data.feed import Feed, feed_of
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import CheckpointError, OptionError, ProgramError
from ppl_genmodels.inference.callbacks import Callback
from ppl_genmodels.inference.checkpoint import Checkpoints
from ppl_genmodels.inference.critics import Critic
from ppl_genmodels.inference.engine import Inputs, LossModule
from ppl_genmodels.inference.gradient import Compiled, Gradient
from ppl_genmodels.inference.processes import Processes
from ppl_genmodels.inference.state import module_device, placing
from ppl_genmodels.objectives import Objective
from ppl_genmodels.program import Program

__all__ = ["Training", "make_optimizer"]

CHECKPOINT_STEPS = 50
"""A checkpoint is written at the end of an epoch when at least so many steps were made since the last."""
CHECKPOINT_SECONDS = 300.0
"""A checkpoint is written at any step when so many seconds have passed since the last."""

Optimizer = torch.optim.Optimizer
OptimizerFactory = Callable[[Any], Optimizer]


class Training:
    """A program being trained. Callbacks read and steer it.

    Attributes:
        program: The program.
        optimizer: The optimizer.
        critics: The other players.
        step: Updates made so far.
        epoch: Epochs completed so far.
        history: One record per step.
        validation: The newest validation objective, NaN before the first.
        stopped: Why training stopped before its end, or None.
    """

    def __init__(
        self,
        program: Program,
        objective: Objective,
        batches: Batches | LoaderBatches,
        optimizer: Optimizer,
        fabric: Fabric,
        *,
        num_particles: int = 1,
        validation: Batches | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoints: Checkpoints | None = None,
        signature: dict[str, Any] | None = None,
        compiled: Compiled | None = None,
        critics: Sequence[Critic] = (),
    ) -> None:
        self.critics = tuple(critics)
        self.program, self.objective = program, objective
        self.batches, self.fabric, self.optimizer = batches, fabric, optimizer
        self.validation_batches, self.callbacks = validation, tuple(callbacks)
        self.checkpoints = checkpoints
        self.signature = {
            **(signature or {}),
            "optimizer": type(optimizer).__name__,
            "callbacks": [type(callback).__name__ for callback in callbacks],
        }
        self.num_particles = num_particles
        self.processes = Processes(fabric)
        self._gradient = Gradient(program, objective, optimizer, fabric, num_particles, len(batches.rows), compiled)
        self._feed = self._feed_of(batches)
        self._validation_feed = None if validation is None else self._feed_of(validation)
        self.step = self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.validation = math.nan
        self.stopped: str | None = None
        self._asked: str | None = None
        self._seconds, self._began = 0.0, time.monotonic()
        self._saved_step, self._saved_at, self._is_late = 0, self._began, False

    @property
    def validation_rows(self) -> Rows | None:
        """The held-out data, if any."""
        return None if self.validation_batches is None else self.validation_batches.rows

    @property
    def seconds(self) -> float:
        """Time spent training, before and after a resume."""
        return self._seconds + time.monotonic() - self._began

    def stop(self, reason: str) -> None:
        """Ends training after the present step; with several processes, of all of them once they have met."""
        self._asked = reason
        if self.processes.count == 1:
            self.stopped = reason

    def run(self, total_steps: int, seed: int, resume: bool, progress: bool) -> None:
        """Trains up to a number of steps.

        Args:
            total_steps: Steps in all, those before a resume counted in.
            seed: Of everything random.
            resume: Whether to go on from the newest checkpoint.
            progress: Whether to show a progress bar.

        Raises:
            NonFiniteError: When the objective or its gradient is not finite.
        """
        with _forked_random_state(self.fabric.device), _interruptible(self):
            torch.manual_seed(self.processes.seed(seed))
            if resume:
                self._resume()
            self._call("on_start")
            self._began = time.monotonic()
            self.program.train()
            self._agree()
            with Progress(disable=not (progress and self.processes.is_first)) as bar:
                task = bar.add_task("fit", total=total_steps, completed=self.step)
                while self.step < total_steps and self.stopped is None:
                    for _ in self._epoch(total_steps):
                        shown = f"fit  objective {self.history[-1]['objective']:.4g}"
                        bar.update(task, completed=self.step, description=shown)
            self.processes.send(list(self.program.buffers()))
            self.save()
            self._call("on_end")
            self.program.eval()

    def _epoch(self, total_steps: int) -> Iterator[None]:
        skip = self.step - self.epoch * self.batches.per_epoch
        with closing(self._feed.epoch(self.epoch, skip)) as batches:
            for (args, kwargs), weight in batches:
                self._take_step(Inputs(args, kwargs, weight))
                yield
                self._agree()
                if self.step % self.batches.per_epoch and self._is_late:
                    self.save()
                if self.step >= total_steps or self.stopped is not None:
                    break
        if self.step % self.batches.per_epoch == 0:
            self._end_epoch()

    def _end_epoch(self) -> None:
        """A checkpoint written here, and not after the last step of the epoch, holds its validation."""
        self.epoch += 1
        self.processes.send(list(self.program.buffers()))
        if self.validation_batches is not None:
            self._validate()
        self._call("after_epoch")
        self._agree()
        if self.step - self._saved_step >= CHECKPOINT_STEPS or self._is_late:
            self.save()

    def _agree(self) -> None:
        """Makes all processes stop when one is asked to, which may be at any time, and write when one finds it late."""
        late = time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
        self._is_late, asked = self.processes.any(late, self._asked is not None)
        if asked:
            self.stopped = next(reason for reason in self.processes.gather(self._asked) if reason is not None)

    def _take_step(self, inputs: Inputs) -> None:
        others = [critic(inputs, self.step, self._anew) for critic in self.critics]
        found = self._gradient(inputs, self.step)
        loss, norm = found.pop("loss"), found.pop("gradient_norm")
        self._call("after_backward")
        self._gradient.update()
        self.step += 1
        self.history.append(
            {"step": self.step, "epoch": self.epoch, "objective": -loss, **found}
            | {name: value for other in others for name, value in other.items()}
            | {"gradient_norm": norm, "time": self.seconds, "validation": math.nan}
        )
        self._call("after_step")

    def _anew(self) -> Inputs | None:
        """As many rows as a batch has, drawn at random for a critic; None for a user's own loader."""
        drawn = self._feed.drawn()
        return None if drawn is None else Inputs(*drawn)

    def _validate(self) -> None:
        """The objective on held-out data, schedules at their end, with the same noise each time."""
        self._call("before_validation")
        self.validation = self.evaluate(self._validation_feed)  # type: ignore[arg-type]
        self.history[-1]["validation"] = self.validation
        self._call("after_validation", reverse=True)

    def evaluate(self, feed: Feed) -> float:
        """The objective's mean over data, without gradient and leaving the random state as it was."""
        loss = LossModule(self.program, self.objective, self.num_particles, len(feed.batches.rows))
        total = 0.0
        self.program.eval()
        with torch.no_grad(), _forked_random_state(self.fabric.device), self.fabric.autocast():
            torch.manual_seed(self.processes.seed(0))
            for (args, kwargs), weight in feed.in_order():
                value, _ = loss(Inputs(args, kwargs), torch.tensor(math.inf))
                total -= float(value) * _last_run(loss).batch_rows * (weight > 0)
        self.program.train()
        return self.processes.sum(total)[0] / len(feed.batches.rows)

    def _feed_of(self, batches: Any) -> Any:
        """The way of batches to the program, which is on its device by now."""
        return feed_of(batches, placing(self.program), module_device(self.program), self.processes.share)

    def save(self) -> None:
        """Writes a checkpoint, if the run has a folder."""
        if self.checkpoints is None:
            return
        random = self.processes.gather(_random_state(self.fabric.device))
        if self.processes.is_first:
            self.checkpoints.write(self.step, self._state() | {"random": random})
        self.processes.wait()
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _state(self) -> dict[str, Any]:
        columns = {name: [row[name] for row in self.history] for name in self.history[0]} if self.history else {}
        return {
            "signature": self.signature,
            "step": self.step,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "validation": self.validation,
            "program": self.program.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critics": [critic.state_dict() for critic in self.critics],
            "precision": self.fabric.strategy.precision.state_dict(),
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            "history": {n: torch.tensor(v, dtype=torch.float64) for n, v in columns.items()},
        }

    def _resume(self) -> None:
        state = None if self.checkpoints is None else self.processes.first(self.checkpoints.latest)
        if state is None:
            return
        self._check_signature(state["signature"])
        self.program.load_state_dict(state["program"])
        self.optimizer.load_state_dict(state["optimizer"])
        for critic, saved in zip(self.critics, state.get("critics", ()), strict=True):
            critic.load_state_dict(saved)
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(saved)
        _set_random_state(state["random"][self.processes.rank], self.fabric.device)
        self.step, self.epoch = state["step"], state["epoch"]
        self._saved_step = self.step
        self._seconds, self.validation = state["seconds"], state["validation"]
        columns = {name: values.tolist() for name, values in state["history"].items()}
        self.history = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _check_signature(self, saved: dict[str, Any]) -> None:
        for name, mine in self.signature.items():
            theirs = saved.get(name)
            if theirs != mine:
                raise CheckpointError(
                    f"the checkpoint in {self.checkpoints and self.checkpoints.folder} belongs to another run, of "
                    f"different {name}: {_difference(theirs, mine)}. Remedy: resume with what the run began with, or "
                    f"use another output folder."
                )

    def _call(self, hook: str, reverse: bool = False) -> None:
        for callback in reversed(self.callbacks) if reverse else self.callbacks:
            getattr(callback, hook)(self)


def make_optimizer(program: Program, optimizer: Optimizer | OptimizerFactory | None) -> Optimizer:
    """The optimizer of a program: Adam with learning rate 1e-3 unless another, or a way to make one, is given.

    Raises:
        ProgramError: When the program has no parameters.
        OptionError: When it is no optimizer.
    """
    parameters = [p for p in program.own_parameters() if p.requires_grad]
    if not parameters:
        raise ProgramError(
            "the program has no parameters to train. Remedy: make it an nn.Module that holds its networks, use "
            "pyro.param in its functions, or give a guide with parameters such as guides.AutoNormal(model)."
        )
    if optimizer is None:
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
        return torch.optim.Adam(parameters, lr=1e-3, fused=fused)
    if not isinstance(optimizer, Optimizer):
        made = optimizer(parameters) if callable(optimizer) else optimizer
        if not isinstance(made, Optimizer):
            raise OptionError(
                f"optimizer gave {made!r}, expected a torch.optim optimizer. Remedy: an optimizer, or a factory such "
                f"as functools.partial(torch.optim.Adam, lr=1e-3)."
            )
        return made
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    own = {id(p) for p in program.own_parameters() if p.requires_grad}
    left_out = [n for n, p in program.named_parameters() if id(p) in own - held]
    if left_out:
        warnings.warn(
            f"the optimizer does not hold {len(left_out)} parameters of the program ({', '.join(left_out[:3])}, ...): "
            f"they will not be trained. Remedy: pass a factory, such as functools.partial(torch.optim.Adam, lr=1e-3).",
            stacklevel=3,
        )
    return optimizer


def _last_run(loss: LossModule) -> Any:
    return loss.last_run


def _difference(theirs: Any, mine: Any) -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        changed = sorted(k for k in {*theirs, *mine} if theirs.get(k) != mine.get(k))
        return f"{', '.join(changed[:3])} ({theirs.get(changed[0])} there, {mine.get(changed[0])} here)"
    return f"{theirs!r} there, {mine!r} here"


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def _forked_random_state(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def _interruptible(training: Training) -> Iterator[None]:
    """While open, the first Ctrl-C ends training after the present step; the second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if training._asked is not None:
            raise KeyboardInterrupt
        training.stop("interrupted by the user")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
