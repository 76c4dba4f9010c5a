r"""Solving an ordinary differential equation from one time to another, with gradients either way.

Convention of this module: a state has the shape (\*batch, numbers); the first ``controlled`` numbers alone decide how
long the steps of an adaptive solver are. A solver with a fixed number of steps traces into a graph, an adaptive one
cannot, as its steps depend on the values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torchdiffeq
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from ppl_genmodels.errors import NonFiniteError
from ppl_genmodels.provenance import READING

__all__ = ["ADAPTIVE", "FIXED", "Gradient", "solve"]

Gradient = Literal["direct", "adjoint"]
Slope = Callable[[Tensor, Tensor], Tensor]

ADAPTIVE = ("dopri5", "dopri8", "bosh3")
"""Solvers that choose their steps by tolerances."""
_TABLEAUS: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    "euler": ((), (1.0,)),
    "midpoint": (((0.5,),), (0.0, 1.0)),
    "rk4": (((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}
"""What each stage adds to the state of the ones before it, and how the stages are weighed in the end."""
FIXED = tuple(_TABLEAUS)
"""Solvers that make a given number of steps of equal length."""
LONGEST = 2000
"""Steps after which an adaptive solver gives up."""


def solve(
    slope: Slope,
    state: Tensor,
    times: tuple[float, float],
    solver: str,
    *,
    steps: int,
    tolerances: tuple[float, float],
    controlled: int,
    gradient: str = "direct",
    parameters: Sequence[Tensor] = (),
) -> Tensor:
    r"""The state at the second of two times, which may lie before the first.

    Args:
        slope: From a scalar time and a state to the derivative of the state.
        state: The state at the first time, shape (\*batch, numbers).
        times: From when to when.
        solver: One of :data:`ADAPTIVE` or of :data:`FIXED`.
        steps: How many steps a fixed solver makes.
        tolerances: Relative and absolute, for adaptive solvers.
        controlled: How many numbers of the state the tolerances hold for.
        gradient: Through the solver's steps, or by the adjoint equation, which keeps no steps in memory.
        parameters: What the adjoint equation is to give gradients for, beside the state.

    Raises:
        NonFiniteError: When an adaptive solver cannot go on.

    References:
        Chen, Rubanova, Bettencourt and Duvenaud (2018), Neural Ordinary Differential Equations, algorithm 1; for the
        adjoint's step sizes Kidger, Chen and Lyons (2021), "Hey, that's not an ODE", section 3.

    Example:
        >>> grown = solve(lambda t, x: x, torch.ones(1), (0.0, 1.0), "rk4", steps=20, tolerances=(0, 0), controlled=1)
        >>> torch.isclose(grown, torch.tensor(1.0).exp())
        tensor([True])
    """
    adjoint = gradient == "adjoint" and torch.is_grad_enabled()
    if READING.get():  # of the program's structure, to which all steps of a solver are alike
        return _fixed(slope, state, times, _TABLEAUS["euler"], 1)
    if solver in FIXED and not adjoint:
        return _fixed(slope, state, times, _TABLEAUS[solver], steps)
    if get_proxy_mode() is not None:
        raise RuntimeError(_untraceable(solver, adjoint))
    norm, (rtol, atol) = (lambda value: value[..., :controlled].square().mean().sqrt()), tolerances
    options = {"norm": norm, **_course(solver, steps, times[1])}
    settings: dict[str, Any] = {"rtol": rtol, "atol": atol, "method": solver, "options": options}
    if adjoint:
        settings["adjoint_params"] = tuple(parameter for parameter in parameters if parameter.requires_grad)
        settings["adjoint_options"] = {"norm": "seminorm", **_course(solver, steps, times[0])}
    run = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
    try:
        return run(slope, state, torch.tensor(times, dtype=state.dtype, device=state.device), **settings)[-1]
    except AssertionError as error:  # which is how torchdiffeq says that a step failed
        raise _cannot_go_on(solver, error) from error


def _fixed(
    slope: Slope,
    state: Tensor,
    times: tuple[float, float],
    tableau: tuple[tuple[tuple[float, ...], ...], tuple[float, ...]],
    steps: int,
) -> Tensor:
    """Explicit Runge-Kutta steps of equal length."""
    rows, weights = tableau
    start, length = times[0], (times[1] - times[0]) / steps
    for step in range(steps):
        begin = start + step * length
        slopes: list[Tensor] = []
        for row in ((), *rows):
            moved = _moved(state, slopes, row, length)
            slopes.append(slope(state.new_full((), begin + sum(row) * length), moved))
        state = _moved(state, slopes, weights, length)
    return state


def _moved(state: Tensor, slopes: Sequence[Tensor], weights: Sequence[float], length: float) -> Tensor:
    for slope, weight in zip(slopes, weights, strict=True):
        if weight:
            state = torch.add(state, slope, alpha=weight * length)
    return state


def _course(solver: str, steps: int, end: float) -> dict[str, Any]:
    """Which steps torchdiffeq is to make; an adaptive solver ends on the last time, and does not reach beyond."""
    if solver in FIXED:
        return {"grid_constructor": _grid(steps)}
    return {"max_num_steps": LONGEST, "step_t": torch.tensor([end], dtype=torch.float64)}


def _grid(steps: int) -> Callable[[Any, Tensor, Tensor], Tensor]:
    def grid(_slope: Any, _state: Tensor, times: Tensor) -> Tensor:
        return torch.linspace(float(times[0]), float(times[-1]), steps + 1, dtype=times.dtype, device=times.device)

    return grid


def _untraceable(solver: str, adjoint: bool) -> str:
    what = "the adjoint equation is solved" if adjoint else f"the solver '{solver}' chooses its steps"
    return f"{what} by the values that it meets, where solver='rk4' with gradient='direct' has a fixed course."


def _cannot_go_on(solver: str, error: AssertionError) -> NonFiniteError:
    text = str(error)
    if "max_num_steps" in text:
        reason = f"more than {LONGEST} steps are needed for its tolerances"
    elif "underflow" in text:
        reason = "its steps have become too short: the velocity changes too fast, or is not finite"
    else:
        reason = "the values on the way are not finite"
    return NonFiniteError(
        f"the solver '{solver}' of a continuous flow cannot go on: {reason}. Remedy: a smaller learning rate or "
        f"GradientClipping, standardised data, penalties on objectives.kinetic_energy() and "
        f"objectives.jacobian_norm(), or looser tolerances rtol and atol."
    )
