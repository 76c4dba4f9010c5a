"""The compiled gradient: an objective and its gradient traced once into a graph of tensor operations, then replayed.

Convention of this module: a graph holds for one signature: layouts of the data, and everything that the program's
modules hold. A change of any of these traces anew. No Python of the program runs on replay.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.utils.stateless import _reparametrize_module

from ppl_genmodels.inference.graph_trace import CompileWarning, as_if_not_run, trace
from ppl_genmodels.inference.lowering import Flat, agree, lower, tidied
from ppl_genmodels.inference.products import with_fast_products
from ppl_genmodels.inference.signature import Contents, attributes, changed, shapes, tensors, with_tensors
from ppl_genmodels.inference.unvalidated import Unvalidated
from ppl_genmodels.objectives import Objective, Run
from ppl_genmodels.program import Program

__all__ = ["MODES", "CompiledGradient", "Mode"]

Mode = Literal["auto", "trace", "inductor", "off"]
MODES: tuple[Mode, ...] = ("auto", "trace", "inductor", "off")


@dataclass(frozen=True)
class Traced:
    """A graph of the values and the gradient.

    Attributes:
        graph: From the trained parameters, the step, the scale and the data to the values and the gradient.
        parameters: The parameters that are trained.
        used: Those of them that there is a gradient for.
        unused: The others.
    """

    graph: Flat
    parameters: list[nn.Parameter]
    used: list[nn.Parameter]
    unused: list[nn.Parameter]


class CompiledGradient:
    """The values of an objective and its gradient on a batch, from a graph traced once for each signature.

    The graph holds the operations of the eager run, random ones included, so that its numbers are the same; lowered by
    the compiler it rounds differently. The first result of a graph is compared with the eager one.

    Args:
        objective: What is maximised.
        program: The program, probed.
        lowered: Whether to lower the graph to compiled code.
        num_particles: Draws from the guide.
        data_size: Rows in the whole data set; None when each batch is all.
        autocast: The precision in which the run is made.
        trained: The parameters that there is a gradient for; all of the program's by default.

    Attributes:
        traces: How many graphs were traced.
        refused: Whether the program was found to be one that cannot be traced; it then runs eagerly for good.

    Example:
        >>> from ppl_genmodels.models import VAE
        >>> from ppl_genmodels.objectives import elbo
        >>> from ppl_genmodels.program import as_program
        >>> gradient = CompiledGradient(elbo(), as_program(VAE(data_dim=9, latent_dim=2)))
        >>> values = gradient((torch.ones(4, 9),), {}, step=0)
        >>> values.shape, gradient.traces
        (torch.Size([3]), 1)
    """

    def __init__(
        self,
        objective: Objective,
        program: Program,
        lowered: bool = False,
        num_particles: int = 1,
        data_size: int | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        trained: Iterable[nn.Parameter] | None = None,
    ) -> None:
        self._trained = None if trained is None else {id(parameter) for parameter in trained}
        self.objective, self.program, self.lowered = objective, program, lowered
        self.num_particles, self.data_size, self._autocast = num_particles, data_size, autocast
        self.traces, self.refused = 0, False
        self._step: Tensor | None = None
        self._contents: Contents | None = None
        self._kept: list[Contents] = []
        self._graphs: dict[tuple[Any, ...], dict[Any, Traced]] = {}

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], step: int, scale: Tensor | None = None
    ) -> Tensor | None:
        """Leaves the gradient in the parameters.

        Args:
            args: Data, as the model takes them by position.
            kwargs: Data, as the model takes them by name.
            step: The training step, for schedules.
            scale: A scalar that the gradient is multiplied by, from the loss on; 1 by default.

        Returns:
            The loss, then each term's mean, in nats per datum; None when the program cannot be traced, or there is no
            gradient.
        """
        if self.refused:
            return None
        data = tensors(args, kwargs)
        if self._step is None or (data and data[0].device != self._step.device):
            self._step, self._one = (torch.ones((), device=data[0].device if data else None) for _ in range(2))
        others = [self._step.fill_(step), self._one if scale is None else scale, *data]
        traced = self._find(args, kwargs, others)
        if traced is None or not traced.used:
            return None
        with torch.no_grad():
            values, *gradient = traced.graph(*traced.parameters, *others)
        for parameter, part in zip(traced.used, gradient, strict=True):
            parameter.grad = part
        for parameter in traced.unused:
            parameter.grad = None
        return values

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any], others: list[Tensor]) -> Traced | None:
        """The graph for these data and the program as it is now."""
        if self._contents is None or not self._contents.unchanged():
            self.program.structure(*args, **kwargs)  # probed, validated, before anything is traced
            self._contents = Contents(self.program)
            if self._contents.signature not in self._graphs:
                self._kept.append(self._contents)  # keeps every id in the signature taken
        graphs = self._graphs.setdefault(self._contents.signature, {})
        layout = (torch.get_float32_matmul_precision(), *shapes(args, kwargs))
        if layout not in graphs:
            traced = self._trace(args, kwargs, others)
            if traced is None:
                self.refused = True
                return None
            graphs[layout] = traced
        return graphs[layout]

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any], others: list[Tensor]) -> Traced | None:
        """A graph for these data, checked against the eager run; None, with a warning, when there can be none."""
        parameters = [p for p in self.program.parameters() if p.requires_grad]
        inputs, count = [*(p.detach() for p in parameters), *others], len(parameters)
        used: list[bool] = []

        def evaluate(*flat: Tensor) -> list[Tensor]:
            step, scale, *data = flat[count:]
            values, gradient = self._evaluate(flat[:count], step, scale, *with_tensors(args, kwargs, data))
            used[:] = [part is not None for part in gradient]
            return [values, *(part for part in gradient if part is not None)]

        traced = trace(evaluate, inputs, self.program, "the step")
        if traced is None:
            return None
        self.traces += 1
        graph = self._lowered(tidied(traced), inputs)
        if not self._agrees(graph, evaluate, inputs):
            return None
        pairs = list(zip(filter(self._is_trained, parameters), used, strict=True))
        return Traced(graph, parameters, [p for p, is_used in pairs if is_used], [p for p, u in pairs if not u])

    def _lowered(self, graph: GraphModule, inputs: Sequence[Tensor]) -> Flat:
        """The graph as compiled code where that is asked for and can be had."""
        if not self.lowered:
            return graph.forward
        try:
            return lower(with_fast_products(graph), inputs)
        except Exception as error:  # the compiler's, of which there is no list
            warnings.warn(
                f"the compiler cannot lower this step, which is replayed from its graph instead: "
                f"{type(error).__name__}: {str(error).strip().splitlines()[0]} Remedy: compile='trace', or a C++ "
                f"compiler on the path where there is none.",
                CompileWarning,
                stacklevel=6,
            )
            return graph.forward

    def _evaluate(
        self,
        parameters: Sequence[Tensor],
        step: Tensor,
        scale: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The values and the gradient with these tensors in the place of the program's parameters."""
        names = [name for name, p in self.program.named_parameters() if p.requires_grad]
        with torch.enable_grad(), self._autocast():
            held = [p for p in self.program.parameters() if p.requires_grad]
            leaves = [p.detach().requires_grad_(self._is_trained(own)) for p, own in zip(parameters, held, strict=True)]
            with _reparametrize_module(self.program, dict(zip(names, leaves, strict=True))), Unvalidated():
                run = Run(self.program, args, kwargs, self.num_particles, step, self.data_size)
                loss, terms = self.objective.assess(run)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        if not loss.requires_grad:
            return torch.stack([loss, *terms.values()]), [None] * len(wanted)
        gradient = torch.autograd.grad(loss * scale, wanted, allow_unused=True)
        laid_out: list[Tensor | None] = [
            None if g is None else _laid_out_as(p, g) for p, g in zip(wanted, gradient, strict=True)
        ]
        return torch.stack([loss.detach(), *terms.values()]), laid_out

    def _is_trained(self, parameter: nn.Parameter) -> bool:
        return self._trained is None or id(parameter) in self._trained

    def _agrees(self, graph: Flat, evaluate: Flat, inputs: Sequence[Tensor]) -> bool:
        """Whether a graph does the same as the eager run, from the same inputs and the same random state."""
        before = attributes(self.program)
        with as_if_not_run(self.program), pyro.validation_enabled(False):
            expected = evaluate(*inputs)
        with as_if_not_run(self.program), torch.no_grad():
            found = graph(*inputs)
        change = changed(before, attributes(self.program))
        if change or not agree(expected, found):
            warnings.warn(
                f"the step runs eagerly, because a traced one would not do the same: "
                f"{change or 'its numbers differ from the eager ones'}. Remedy: keep what changes from step to step in "
                f"a buffer or a schedule, or pass compile='off'.",
                CompileWarning,
                stacklevel=5,
            )
            return False
        return True


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in memory as fused optimizers expect it: entry by entry beside its parameter."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
