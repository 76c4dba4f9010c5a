"""Flows beside Zuko's and normflows': log-densities, draws, and steps of maximum likelihood.

Convention of this module: ratios are to this library, eager, so that above one is slower than it. Log-densities and
draws are without gradients; a step has a loss, ``backward`` and one fused Adam. What a library lacks has no row.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.flow_cases import CASES, Case, Density
from benchmarks.interleaved import Rounds, Way, ratios
from benchmarks.library_flows import FlowProgram, library_flow
from benchmarks.machine import clock
from ppl_genmodels.inference import compile_step
from ppl_genmodels.objectives import log_lik

__all__ = ["LIBRARIES", "OURS", "QUANTITIES", "TRAINING", "flows_of", "measure", "training_ways"]

OURS, ZUKO, NORMFLOWS = "ppl_genmodels", "Zuko", "normflows"
QUANTITIES = ("log_prob", "draws", "draws with log_prob")
TRAINING = "training step"
MODES = {"program, eager": "off", "program, traced": "trace", "program, lowered": "inductor"}


def _zuko(case: Case) -> Density | None:
    from benchmarks.zuko_flows import zuko_flow

    return zuko_flow(case)


def _normflows(case: Case) -> Density | None:
    from benchmarks.normflows_flows import normflows_flow

    return normflows_flow(case)


LIBRARIES: dict[str, Callable[[Case], Density | None]] = {OURS: library_flow, ZUKO: _zuko, NORMFLOWS: _normflows}
NEEDED = {ZUKO: "zuko", NORMFLOWS: "normflows"}


def installed(name: str) -> bool:
    """Whether a library is there."""
    return name not in NEEDED or importlib.util.find_spec(NEEDED[name]) is not None


def flows_of(case: Case) -> dict[str, Density]:
    """The flow of a case in every library that has it.

    Example:
        >>> OURS in flows_of(CASES["MAF, 6-D, 128 rows"])
        True
    """
    made = {name: make(case) for name, make in LIBRARIES.items() if installed(name)}
    return {name: density for name, density in made.items() if density is not None}


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """By quantity and case the rounds of every way; and by case and library the numbers of parameters."""
    found: dict[str, dict[str, Any]] = {
        quantity: {} for quantity in (*QUANTITIES, TRAINING, "parameters", "evaluations")
    }
    for name, case in CASES.items():
        print(f"timing {name} ...", flush=True)
        densities = flows_of(case)
        found["parameters"][name] = {library: density.parameters for library, density in densities.items()}
        found["evaluations"] |= {name: evaluations(case, densities)} if case.family == "continuous" else {}
        for quantity in QUANTITIES if case.draws else QUANTITIES[:1]:
            ways = {library: way(case, density, quantity) for library, density in densities.items()}
            found[quantity][name] = ratios(ways, OURS, rounds, clock("cpu"))
        found[TRAINING][name] = trained(case, densities, rounds)
    return found


def way(case: Case, density: Density, quantity: str) -> Way:
    """One of :data:`QUANTITIES`."""
    batches = itertools.cycle(case.batches())
    calls: dict[str, Callable[[], Any]] = {
        "log_prob": lambda: density.log_prob(next(batches)),
        "draws": lambda: density.sample(case.rows),
        "draws with log_prob": lambda: density.sample_and_log_prob(case.rows),
    }
    return Way(calls[quantity], torch.no_grad)


def trained(case: Case, densities: dict[str, Density], rounds: int) -> Rounds:
    """The rounds of the ways to train."""
    found = ratios(training_ways(case, densities), OURS, rounds, clock("cpu"))
    torch._dynamo.reset()
    return found


def training_ways(case: Case, densities: dict[str, Density]) -> dict[str, Way]:
    """A step of maximum likelihood: a loop over each library's log-density, and this library's program in each mode."""
    ways = {name: loop(case, density) for name, density in densities.items()}
    if case.compiled:
        ways |= {f"{name}, compiled": loop(case, density, True) for name, density in densities.items()}
    for name, mode in MODES.items():
        if mode == "off" or (case.family != "continuous" and (case.compiled or mode == "trace")):
            ways[f"{OURS}, {name}"] = program_way(case, mode)
    return ways


def loop(case: Case, density: Density, compiled: bool = False) -> Way:
    """A loop as its users write it, with a flow of its own."""
    optimizer = torch.optim.Adam(density.module.parameters(), 1e-3, fused=True)
    batches = itertools.cycle(case.batches())

    def loss_of(x: Tensor) -> Tensor:
        return -density.log_prob(x).mean()

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(next(batches))
        loss.backward()
        optimizer.step()
        return loss.item()

    return Way(step)


def program_way(case: Case, mode: Any) -> Way:
    """``compile_step`` on a program whose one site is the flow."""
    program, batches = FlowProgram(case), itertools.cycle(case.batches())
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = compile_step(log_lik(), program, optimizer, mode)
    return Way(lambda: -step(next(batches)).item())


def evaluations(case: Case, densities: dict[str, Density]) -> dict[str, int]:
    """How often each library's solver evaluates the network for one batch of log-densities."""
    counts = dict.fromkeys(densities, 0)
    for name, density in densities.items():

        def count(*_: Any, name: str = name) -> None:
            counts[name] += 1

        assert density.network is not None
        handle = density.network.register_forward_pre_hook(count)
        with torch.no_grad():
            density.log_prob(case.batches()[0])
        handle.remove()
    return counts
