"""The compiled step: an objective and its gradient traced once into a graph of tensor operations, then replayed.

Convention of this module: a graph holds for one signature: shapes, dtypes and devices of the data, and everything that
the program's modules hold. A change of any of these traces anew. No Python of the program runs on replay.
"""

from __future__ import annotations

import operator
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.stateless import _reparametrize_module

from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.signature import attributes, changed, contents, key, shapes
from ppl_genmodels.inference.unvalidated import Unvalidated
from ppl_genmodels.objectives import Objective, Run
from ppl_genmodels.program import Program, as_program

__all__ = ["MODES", "CompileWarning", "CompiledGradient", "Mode", "compile_step"]

Mode = Literal["auto", "trace", "inductor", "off"]
MODES: tuple[Mode, ...] = ("auto", "trace", "inductor", "off")

Values = tuple[Tensor, list[Tensor]]
Graph = Callable[..., Values]
Traced = tuple[Graph, list[bool], list[Tensor]]
"""A graph, which of the parameters it has a gradient for, and the parameters."""


class CompileWarning(UserWarning):
    """A program cannot be traced and runs eagerly; the message names the line that stands in the way."""


class CompiledGradient:
    """The values of an objective and its gradient on a batch, from a graph traced once for each signature.

    The graph holds the operations of the eager run, random ones included, so that its numbers are the same; lowered by
    ``torch.compile`` it rounds differently. The first result of a graph is compared with the eager one.

    Args:
        objective: What is maximised.
        program: The program, probed.
        lower: Whether to lower the graph with ``torch.compile``.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set; None when each batch is all.

    Attributes:
        traces: How many graphs were traced.
        refused: Whether the program was found to be one that cannot be traced; it then runs eagerly for good.

    Example:
        >>> from ppl_genmodels.models import VAE
        >>> from ppl_genmodels.objectives import elbo
        >>> gradient = CompiledGradient(elbo(), as_program(VAE(data_dim=9, latent_dim=2)))
        >>> values = gradient((torch.ones(4, 9),), {}, step=0)
        >>> values.shape, gradient.traces
        (torch.Size([3]), 1)
    """

    def __init__(
        self,
        objective: Objective,
        program: Program,
        lower: bool = False,
        num_particles: int = 1,
        data_size: int | None = None,
    ) -> None:
        self.objective, self.program, self.lower = objective, program, lower
        self.num_particles, self.data_size = num_particles, data_size
        self.traces, self.refused = 0, False
        self._graphs: dict[Any, Traced | None] = {}
        self._newest: tuple[list[Any], Any, Traced | None] = ([], None, None)
        self._used: list[bool] = []
        self._kept: list[Any] = []

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], step: int) -> Tensor | None:
        """Leaves the gradient in the parameters.

        Returns:
            The loss, then each term's mean, in nats per datum; None when the program cannot be traced.
        """
        if self.refused:
            return None
        self.program.structure(*args, **kwargs)  # probed, validated, before anything is traced
        traced = self._find(args, kwargs, step)
        if traced is None:
            self.refused = True
            return None
        graph, used, parameters = traced
        with torch.no_grad():
            values, gradient = graph(parameters, _as_tensor(step, args), args, kwargs)
        parts = iter(gradient)
        for parameter, is_used in zip(parameters, used, strict=True):
            parameter.grad = next(parts) if is_used else None
        return values

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any], step: int) -> Traced | None:
        """The graph for these data and the program as it is now; the newest one when nothing has changed."""
        held, shape = contents(self.program), shapes(args, kwargs)
        last_held, last_shape, last = self._newest
        if shape == last_shape and len(held) == len(last_held) and all(map(operator.is_, held, last_held)):
            return last
        signature = (shape, tuple(map(key, held)))
        if signature not in self._graphs:
            self._kept.append(held)  # keeps every id in the signature taken
            self._graphs[signature] = self._trace(args, kwargs, step)
        self._newest = (held, shape, self._graphs[signature])
        return self._graphs[signature]

    def _evaluate(
        self, parameters: list[Tensor], step: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Values:
        """The values and the gradient with these tensors in the place of the program's parameters."""
        names = [name for name, p in self.program.named_parameters() if p.requires_grad]
        with _reparametrize_module(self.program, dict(zip(names, parameters, strict=True))), Unvalidated():
            run = Run(self.program, args, kwargs, self.num_particles, step, self.data_size)
            loss, terms = self.objective.assess(run)
            gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
        self._used = [part is not None for part in gradient]
        return torch.stack([loss.detach(), *terms.values()]), [part for part in gradient if part is not None]

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any], step: int) -> Traced | None:
        """A graph for these data, checked against the eager run.

        None, with a warning, when there can be no graph.
        """
        inputs = (_leaves(self.program), _as_tensor(step, args), args, kwargs)
        with pyro.validation_enabled(False):
            try:
                with _as_if_not_run(self.program):
                    # make_fx counts a bound method's self among the arguments.
                    graph: Any = make_fx(lambda *traced: self._evaluate(*traced))(*inputs)
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                warnings.warn(_refusal(error), CompileWarning, stacklevel=4)
                return None
            graph.graph.eliminate_dead_code()
            graph.recompile()
            self.traces += 1
            lowered = torch.compile(graph, options={"fallback_random": True}) if self.lower else graph
            before = attributes(self.program)
            agrees, change = self._agrees(lowered, inputs), changed(before, attributes(self.program))
            if not agrees or change:
                warnings.warn(
                    f"the step runs eagerly, because a traced one would not do the same: "
                    f"{change or 'its numbers differ from the eager ones'}. Remedy: keep what changes from step to "
                    f"step in a buffer or a schedule, or pass compile='off'.",
                    CompileWarning,
                    stacklevel=4,
                )
                return None
        return lowered, self._used, [p for p in self.program.parameters() if p.requires_grad]

    def _agrees(self, graph: Graph, inputs: tuple[Any, ...]) -> bool:
        with _as_if_not_run(self.program):
            expected, expected_gradient = self._evaluate(*inputs)
        with _as_if_not_run(self.program), torch.no_grad():
            values, gradient = graph([p.detach() for p in inputs[0]], *inputs[1:])
        pairs = zip([expected, *expected_gradient], [values, *gradient], strict=True)
        return all(_close(one, other) for one, other in pairs)


def compile_step(
    objective: Objective,
    program: Any,
    optimizer: torch.optim.Optimizer,
    mode: Mode = "auto",
    num_particles: int = 1,
    data_size: int | None = None,
) -> Callable[..., Tensor]:
    """A training step for a loop of one's own.

    Args:
        objective: What is maximised.
        program: Any object with ``.model`` and ``.guide``, or a :class:`~ppl_genmodels.Program`.
        optimizer: What updates the parameters.
        mode: ``"trace"`` replays a traced graph; ``"inductor"`` also lowers it with ``torch.compile``; ``"off"`` runs
            eagerly; ``"auto"`` is ``"trace"``.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set; None when each batch is all.

    Returns:
        ``step(*data, **data)``, which makes one update and returns the objective before it, in nats per datum.

    Raises:
        OptionError: When the mode is unknown.

    Example:
        >>> from ppl_genmodels.models import VAE
        >>> from ppl_genmodels.objectives import elbo
        >>> vae = VAE(data_dim=9, latent_dim=2)
        >>> step = compile_step(elbo(), vae, torch.optim.Adam(vae.parameters()))
        >>> bool(step(torch.ones(4, 9)) < 0)
        True
    """
    if mode not in MODES:
        raise OptionError(f"mode is one of {', '.join(map(repr, MODES))}; got {mode!r}.")
    prepared, count = as_program(program), 0
    compiled = CompiledGradient(objective, prepared, mode == "inductor", num_particles, data_size)

    def step(*args: Any, **kwargs: Any) -> Tensor:
        nonlocal count
        values = None if mode == "off" else compiled(args, kwargs, count)
        if values is None:
            optimizer.zero_grad()
            run = Run(prepared, args, kwargs, num_particles, count, data_size)
            loss, _ = objective.assess(run)
            loss.backward()
            values = loss.detach().reshape(1)
        optimizer.step()
        count += 1
        return -values[0]

    return step


def _leaves(program: Program) -> list[Tensor]:
    return [p.detach().requires_grad_() for p in program.parameters() if p.requires_grad]


def _as_tensor(step: int, args: tuple[Any, ...]) -> Tensor:
    return torch.tensor(float(step), device=next((a.device for a in args if isinstance(a, Tensor)), None))


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal up to the rounding of a sum in another order."""
    scale = one.abs().max().clamp(min=1e-6)
    return bool(((one - other).abs() <= 1e-3 * scale).all() or not one.isfinite().all())


@contextmanager
def _as_if_not_run(program: nn.Module) -> Iterator[None]:
    """Leaves the random state and the program's buffers as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in program.buffers()]
    with torch.random.fork_rng():
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def _refusal(error: Exception) -> str:
    """Why a program runs eagerly, with the line of the user's code that was reached."""
    inside = ("torch", "pyro", "ppl_genmodels")
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(part in inside for part in Path(f.filename).parts)] or frames
    where = f"{Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line}"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "_local_scalar_dense" in reason:
        reason = "Python reads the value of a tensor there."
    return (
        f"the step cannot be traced and runs eagerly ({where}): {reason} Remedy: tensor operations in that place "
        f"(torch.where for an if), or compile='off'."
    )
