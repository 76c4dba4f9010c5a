"""A training step with Pixyz, written as its examples are: distributions as classes, losses from them, ``Model.train``.

Convention of this module: the networks are the program's own. Pixyz parametrises bits by their probability, so that its
loss agrees with the others' up to the rounding of a sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import Expectation, KullbackLeibler
from pixyz.models import Model
from torch import Tensor, nn

from benchmarks.interleaved import Way
from benchmarks.programs import normal_parameters
from benchmarks.tasks import Kind, Task

__all__ = ["pixyz_way"]


def pixyz_way(task: Task) -> Way | None:
    """The step of Pixyz; None for the tasks that its losses cannot state.

    It has no importance-weighted bound, and no change of variables for the regression's positive latents.
    """
    if task.kind not in WRITTEN:
        return None
    model, batches = WRITTEN[task.kind](task), task.rotation()

    def step() -> float:
        (x,) = next(batches)
        return float(model.train({"x": x}).detach())

    return Way(step)


class Read(Normal):  # type: ignore[misc]
    """A normal whose mean and scale a network reads off another variable."""

    def __init__(self, network: nn.Module, variable: str, given: str, name: str) -> None:
        super().__init__(var=[variable], cond_var=[given], name=name)
        self.network, self.given = network, given

    def forward(self, **values: Tensor) -> dict[str, Tensor]:
        """The parameters."""
        loc, scale = normal_parameters(self.network(values[self.given]))
        return {"loc": loc, "scale": scale}


class Bits(Bernoulli):  # type: ignore[misc]
    """Bits whose probabilities a network gives."""

    def __init__(self, network: nn.Module, given: str) -> None:
        super().__init__(var=["x"], cond_var=[given], name="p")
        self.network, self.given = network, given

    def forward(self, **values: Tensor) -> dict[str, Tensor]:
        """The parameters."""
        return {"probs": torch.sigmoid(self.network(values[self.given]))}


def _prior(program: Any, variable: str) -> Normal:
    width = list(program.prior_loc.shape)
    device = program.prior_loc.device
    zero, one = torch.tensor(0.0, device=device), torch.tensor(1.0, device=device)
    return Normal(loc=zero, scale=one, var=[variable], features_shape=width, name="p_{prior}").to(device)


def _model(task: Task, loss: Any, distributions: list[Any]) -> Model:
    return Model(loss, distributions=distributions, optimizer_params={"lr": task.learning_rate})


def _vae(task: Task) -> Model:
    program: Any = task.program()
    posterior, pixels = Read(program.encoder, "z", "x", "q"), Bits(program.decoder, "z")
    draws = torch.Size([task.particles])
    cost = Expectation(posterior, -pixels.log_prob(), sample_shape=draws)
    return _model(task, (KullbackLeibler(posterior, _prior(program, "z")) + cost).mean(), [pixels, posterior])


def _chain(task: Task) -> Model:
    program: Any = task.program()
    heads = [nn.Sequential(program.features, head) for head in program.heads]
    last = len(heads)
    posteriors = [Read(head, f"z{i}", "x", f"q{i}") for i, head in enumerate(heads, 1)]
    transitions = [Read(net, f"z{i}", f"z{i - 1}", f"p{i}") for i, net in enumerate(program.transitions, 2)]
    priors, pixels = [_prior(program, "z1"), *transitions], Bits(program.decoder, f"z{last}")
    divergence = sum(
        (KullbackLeibler(q, p) for q, p in zip(posteriors[1:], priors[1:], strict=True)), -pixels.log_prob()
    )
    joint = reduce(lambda one, other: one * other, posteriors)
    loss = (KullbackLeibler(posteriors[0], priors[0]) + Expectation(joint, divergence)).mean()
    return _model(task, loss, [*posteriors, *transitions, pixels])


WRITTEN: dict[Kind, Callable[[Task], Model]] = {"vae": _vae, "chain": _chain}
