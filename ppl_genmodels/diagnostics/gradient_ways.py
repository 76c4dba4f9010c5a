"""The ways in which the gradient may pass a latent site: those that are compared, and what one call of each gives.

Convention of this module: a way exchanges the estimator of one site; all other sites keep the program's own.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ppl_genmodels import handlers
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.handlers import Estimator, ScoreFunction
from ppl_genmodels.handlers.estimator import base_of
from ppl_genmodels.handlers.instead import instead
from ppl_genmodels.handlers.score_function import Baseline
from ppl_genmodels.objectives import Objective
from ppl_genmodels.program import Program
from ppl_genmodels.structure import Node

__all__ = ["PATHWISE", "Calls", "Way", "default_ways", "given_ways"]

PATHWISE = "pathwise"

LEARNING_STEPS, LEARNING_RATE = 100, 0.01
"""What an estimator learns for itself, such as its temperature, is learned so long before it is measured."""


@dataclass(frozen=True, eq=False)
class Way:
    """An estimator at a site.

    Attributes:
        site: The site.
        name: What the estimator is called.
        estimator: The estimator, of this way's own; None for the pathwise gradient.
    """

    site: str
    name: str
    estimator: Estimator | None

    @property
    def biased(self) -> bool:
        """Whether the estimator says that it is."""
        return self.estimator is not None and self.estimator.biased

    @property
    def learns(self) -> bool:
        """Whether the estimator may have parameters of its own."""
        return isinstance(getattr(self.estimator, "state", None), nn.Module)


@dataclass
class Calls:
    """Takes gradients of one objective on one batch of data.

    Args:
        program: The program.
        objective: What is maximised.
        args: Data, as the model takes them by position.
        kwargs: Data, as the model takes them by name.
        num_particles: Draws from the guide.
        of_guide: The parameters of the guide, which the gradient is of.
    """

    program: Program
    objective: Objective
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    num_particles: int
    of_guide: list[Tensor]
    _others: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        own = {id(parameter) for parameter in self.of_guide}
        self._others = [p for p in self.program.parameters() if p.requires_grad and id(p) not in own]

    def loss(self, way: Way) -> Tensor:
        """The loss of a run."""
        with instead({way.site: way.estimator}):
            return self.objective.loss(self.program, *self.args, num_particles=self.num_particles, **self.kwargs)

    def gradient(self, way: Way, seed: int) -> tuple[Tensor, float]:
        """The gradient of the objective in the guide's parameters, one vector, and the seconds that a step takes.

        Args:
            way: How it passes the site.
            seed: Of the draws.
        """
        torch.manual_seed(seed)
        start = self._now()
        parameters = [*self.of_guide, *self._others]
        found = torch.autograd.grad(-self.loss(way), parameters, allow_unused=True, materialize_grads=True)
        seconds = self._now() - start
        return torch.cat([each.reshape(-1) for each in found[: len(self.of_guide)]]), seconds

    def learn(self, way: Way, seed: int) -> None:
        """Lets an estimator learn what it has to learn by itself; the program stays as it is."""
        state = getattr(way.estimator, "state", None)
        own = [] if state is None else list(state.parameters())
        if not own:
            return
        torch.manual_seed(seed)
        optimizer = torch.optim.Adam(own, LEARNING_RATE)
        for _ in range(LEARNING_STEPS):
            gradients = torch.autograd.grad(self.loss(way), own, allow_unused=True, materialize_grads=True)
            for parameter, gradient in zip(own, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()

    def _now(self) -> float:
        """With one thread the process's own time, which stands still while others have the core."""
        if self.of_guide[0].is_cuda:
            torch.cuda.synchronize(self.of_guide[0].device)
        elif torch.get_num_threads() == 1:
            return time.process_time()
        return time.perf_counter()


def default_ways(nodes: Iterable[Node]) -> list[Way]:
    """For each site the pathwise gradient, where it passes, and every estimator of this library that serves it.

    Args:
        nodes: The latent sites of the guide.
    """
    ways = []
    for node in nodes:
        if node["fn"].has_rsample:
            ways.append(Way(node["name"], PATHWISE, None))
        for name, estimator in _library().items():
            if estimator.serves(base_of(node["fn"])):
                ways.append(Way(node["name"], name, estimator))
    return ways


def _library() -> dict[str, Estimator]:
    """New estimators by name, of every class that needs no arguments; the score function with each of its baselines."""
    found: dict[str, Estimator] = {
        f"{ScoreFunction.__name__}({baseline})": ScoreFunction(baseline=baseline)
        for baseline in get_args(Baseline)
        if baseline != "vimco"  # which is leave-one-out for terms that do not mix particles
    }
    for name in handlers.__all__:
        kind = getattr(handlers, name)
        if inspect.isclass(kind) and issubclass(kind, Estimator) and kind not in (Estimator, ScoreFunction):
            needed = [p for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
            if not needed:
                found[name] = kind()
    return found


def given_ways(nodes: Iterable[Node], estimators: Mapping[str, Estimator | None]) -> list[Way]:
    """The named estimators at the sites that they select and serve.

    Args:
        nodes: The latent sites of the guide.
        estimators: By name; None is the pathwise gradient.

    Raises:
        OptionError: When one is no estimator.
        ProgramError: When one serves none of the sites.
    """
    nodes, ways = list(nodes), []
    for name, estimator in estimators.items():
        if estimator is not None and not isinstance(estimator, Estimator):
            raise OptionError(
                f"estimators[{name!r}] is {estimator!r}, expected an Estimator, such as handlers.ScoreFunction(), or "
                f"None for the pathwise gradient."
            )
        served = [node for node in nodes if _serves(estimator, node)]
        if not served:
            sites = ", ".join(f"'{node['name']}' ({type(base_of(node['fn'])).__name__})" for node in nodes)
            what = "sites with a reparameterization" if estimator is None else estimator.serves_what
            raise ProgramError(
                f"estimators[{name!r}] serves {what}, and none of the sites that it is to be measured at: {sites}. "
                f"Remedy: leave it out, or name another site with sites=..."
            )
        ways += [Way(node["name"], name, copy.deepcopy(estimator)) for node in served]
    return ways


def _serves(estimator: Estimator | None, node: Node) -> bool:
    if estimator is None:
        return bool(node["fn"].has_rsample)
    return estimator.selects(node) and estimator.serves(base_of(node["fn"]))
