"""A step under every handler as a ratio to the plain step of the same program, and what a neutral handler costs.

Convention of this module: the plain step has no handler, so that the pathwise gradient or the score function passes;
ratios are to the plain step run eagerly. The handlers are those that ``ppl_genmodels.handlers`` offers. A neutral
handler is one whose predicate selects no site; its ratio is to the same step without it, in the same mode, and beside
it stands the ratio of two steps that are the same, which is what such a measurement leaves.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.estimator_programs import COLUMNS, PROGRAMS, ROWS, Timed
from benchmarks.interleaved import Rounds, Way, ratios
from benchmarks.machine import clock
from ppl_genmodels import as_program, handlers, objectives
from ppl_genmodels.diagnostics.gradient_measurement import CANNOT
from ppl_genmodels.inference import compile_step
from ppl_genmodels.objectives import Run

__all__ = ["MODES", "PLAIN", "handlers_to_time", "measure", "neutral"]

PLAIN = "plain"
MODES = {"eager": "off", "traced": "trace", "lowered": "inductor"}
NEUTRAL_ROUNDS = 30
"""So many times the rounds of the others."""

Make = Callable[[], Any]

NEED_MORE: dict[str, Make] = {
    "Temper": lambda: handlers.Temper(0.5),
    "Temperature": lambda: handlers.Temperature(0.5),
    "GumbelSoftmax, categorical": lambda: handlers.GumbelSoftmax(density="categorical"),
    "GumbelSoftmax, hard": lambda: handlers.GumbelSoftmax(hard=True),
    "ScoreFunction, none": partial(handlers.ScoreFunction, baseline="none"),
    "ScoreFunction, leave_one_out": handlers.ScoreFunction,
    "ScoreFunction, running_mean": partial(handlers.ScoreFunction, baseline="running_mean"),
    "ScoreFunction, learned": lambda: handlers.ScoreFunction(baseline=torch.nn.Linear(COLUMNS, 1)),
}
"""Handlers that need arguments, and some with others than their defaults."""


def handlers_to_time() -> dict[str, Make]:
    """By name a maker of every handler: all classes of the package that need no arguments, and :data:`NEED_MORE`.

    Example:
        >>> "MaskMissing" in handlers_to_time(), "ScoreFunction, none" in handlers_to_time()
        (True, True)
    """
    found: dict[str, Make] = {}
    for name in handlers.__all__:
        kind = getattr(handlers, name)
        base = name in ("SiteHandler", "Estimator", "NoiseHandler", "ScoreFunction")
        if inspect.isclass(kind) and issubclass(kind, handlers.SiteHandler) and not base and not _needed(kind):
            found[name] = kind
    return dict(sorted((found | NEED_MORE).items()))


def _needed(kind: type) -> list[str]:
    return [name for name, p in inspect.signature(kind).parameters.items() if p.default is p.empty]


def measure(rounds: int) -> dict[str, dict[str, Rounds]]:
    """The rounds of every handler by program, and those of the neutral one by program and mode."""
    return {"steps": handled(rounds), "neutral": neutral(rounds)}


def handled(rounds: int) -> dict[str, Rounds]:
    """For each program the rounds of every handler that acts on it, in every mode."""
    found = {}
    for name, timed in PROGRAMS.items():
        print(f"timing handlers on {name} ...", flush=True)
        made = {each: make for each, make in handlers_to_time().items() if acts(timed, make)}
        modes = {mode: option for mode, option in MODES.items() if timed.lowered or mode != "lowered"}
        ways = {
            f"{each}, {mode}": way(timed, make, option)
            for (each, make), (mode, option) in itertools.product([(PLAIN, None), *made.items()], modes.items())
        }
        found[name] = ratios(ways, f"{PLAIN}, eager", rounds, clock("cpu"))
        torch._dynamo.reset()
    return found


def neutral(rounds: int) -> dict[str, Rounds]:
    """For each program and mode the rounds of a step with a neutral handler, and of the same step again."""
    found = {}
    for (name, timed), mode in itertools.product(PROGRAMS.items(), ("eager", "traced")):
        if name not in ("10 one-hot vectors of 10 classes", "10 real numbers"):
            continue
        print(f"timing a neutral handler on {name}, {mode} ...", flush=True)
        makes: dict[str, Make | None] = {
            PLAIN: None,
            "a neutral handler": lambda: handlers.ScoreFunction(lambda msg: False),
            "the same again": None,
        }
        ways = {each: way(timed, make, MODES[mode]) for each, make in makes.items()}
        found[f"{name}, {mode}"] = ratios(ways, PLAIN, NEUTRAL_ROUNDS * rounds, clock("cpu"))
    return found


def acts(timed: Timed, make: Make) -> bool:
    """Whether a handler serves a site of a program, or changes its loss or gradient under the same random state."""
    try:
        ours, plain = (_gradient(timed, each) for each in (make, None))
    except CANNOT:  # what it cannot serve has no row
        return False
    return not torch.equal(ours, plain) or (_serves(timed, make) and timed.plain == "pathwise")


def _serves(timed: Timed, make: Make) -> bool:
    handler = make()
    program = as_program(timed.make()).wrap(handler)
    latent = Run(program, (torch.zeros(ROWS, COLUMNS),), {}, timed.particles).guide.latent
    return isinstance(handler, handlers.MaskMissing) or any(
        node["infer"].get("gradient") is handler for node in latent.values()
    )


def _gradient(timed: Timed, make: Make | None) -> torch.Tensor:
    program, batch = (
        _wrapped(timed, make),
        torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).round(),
    )
    torch.manual_seed(1)
    for _ in range(2):  # a running mean acts from the second step on
        loss = objectives.elbo().loss(program, batch, num_particles=timed.particles)
        found = torch.autograd.grad(loss, list(program.parts.parameters()), materialize_grads=True)
    return torch.cat([loss.detach().reshape(1), *(each.reshape(-1) for each in found)])


def _wrapped(timed: Timed, make: Make | None) -> Any:
    torch.manual_seed(0)
    program = as_program(timed.make())
    return program if make is None else program.wrap(make())


def way(timed: Timed, make: Make | None, mode: Any) -> Way:
    """A training step of a program under a handler."""
    program = _wrapped(timed, make)
    batches = itertools.cycle([torch.rand(ROWS, COLUMNS).round() for _ in range(8)])
    objectives.elbo().loss(program, next(batches), num_particles=timed.particles)  # makes what handlers learn
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = compile_step(objectives.elbo(), program, optimizer, mode, num_particles=timed.particles)
    return Way(lambda: step(next(batches)).item())
