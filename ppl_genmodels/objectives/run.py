"""One run of a program on one batch, shared by every term of an objective.

Convention of this module: values per datum have the shape (particles, data). What is global is spread evenly
over the whole data set, so that the mean over the data counts it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor

from ppl_genmodels.errors import ProgramError, UnknownNameError
from ppl_genmodels.handlers.estimator import NamedAtSites, at_step
from ppl_genmodels.handlers.noise_handler import drawn_from_noise
from ppl_genmodels.program import Program
from ppl_genmodels.structure import PARTICLES, Node, is_deterministic, sample_sites

__all__ = ["Part", "Run"]


class Part(NamedTuple):
    """A site's share in a term.

    Attributes:
        node: The site.
        value: Its value, with the site's batch shape, scaled and masked.
        own_draw: Whether the value depends on the site's own draw; a closed-form divergence does not.
    """

    node: Node
    value: Tensor
    own_draw: bool = True


class Run:
    """One evaluation of one batch: each trace is computed at most once, when a term first asks for it.

    Args:
        program: The program.
        args: Data, as the model takes them by position.
        kwargs: Data, as the model takes them by name.
        num_particles: How many draws from the guide, vectorised in a plate to the left of all others.
        step: The training step, for schedules.
        data_size: Rows in the whole data set when the batch is a part of it; None when the batch is all.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
        >>> run = Run(Program(model), (torch.zeros(3),), {})
        >>> run.log_prob(run.model.observed).shape
        torch.Size([1, 3])
    """

    def __init__(
        self,
        program: Program,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        num_particles: int = 1,
        step: int | Tensor = 0,
        data_size: int | None = None,
    ) -> None:
        self.program, self.args, self.kwargs = program, args, kwargs
        self.num_particles, self.step = num_particles, step
        self.structure = program.structure(*args, **kwargs)
        self.divergences: dict[str, str] = {}
        """How the divergence of each latent site was computed, filled in by the terms."""
        self._data_size = data_size
        self._totals: list[tuple[Tensor, list[Part]]] = []

    @cached_property
    def guide(self) -> Traced:
        """The guide's trace; empty for a program without a guide."""
        if self.program.guide is None:
            return Traced(poutine.Trace())
        with drawn_from_noise(), NamedAtSites():
            return self.trace_particles(self.program.guide)

    @cached_property
    def model(self) -> Traced:
        """The model's trace with latent values from the guide and observed values from the data."""
        named = NamedAtSites(self.guide.nodes)(self.program.model)  # inside, as replaying gives sites the guide's infer
        return self.trace_particles(poutine.replay(named, trace=self.guide.trace))

    @cached_property
    def prior(self) -> Traced:
        """The model's trace without data; latent values are drawn from the prior, observed sites are drawn too."""
        return self.trace_particles(poutine.uncondition(self.program.model))

    def trace_particles(self, fn: Callable[..., Any]) -> Traced:
        """A trace of any callable on this run's data, inside the plate of particles when there are several."""
        dim = -1 - self.structure.max_plate_nesting
        plate = pyro.plate(PARTICLES, self.num_particles, dim=dim) if self.num_particles > 1 else nullcontext()
        with at_step(self.step), poutine.trace(graph_type="flat") as tracer, plate:
            fn(*self.args, **self.kwargs)
        return Traced(tracer.trace)

    @cached_property
    def _data_frame(self) -> CondIndepStackFrame | None:
        traced = self._any_trace
        for node in (*traced.nodes.values(), *traced.deterministic.values()):
            for frame in node["cond_indep_stack"]:
                if frame.vectorized and frame.name == self.structure.data_plate:
                    return frame
        return None

    @property
    def _any_trace(self) -> Traced:
        """A trace of the model that there is already, or else the model's."""
        return self.prior if "prior" in vars(self) and "model" not in vars(self) else self.model

    @property
    def batch_rows(self) -> int:
        """Rows in this run; 1 for a program without plates."""
        return 1 if self._data_frame is None else self._data_frame.size

    @property
    def data_size(self) -> int:
        """Rows in the whole data set; 1 for a program without plates."""
        frame = self._data_frame
        if frame is None:
            return 1
        if frame.full_size != frame.size:
            return frame.full_size or frame.size
        return self._data_size or frame.size

    def log_prob(self, nodes: Iterable[Node]) -> Tensor:
        """The summed log-density of sites, in nats per datum, shape (particles, data)."""
        return self.total((node, self.site_log_prob(node)) for node in nodes)

    def site_log_prob(self, node: Node) -> Tensor:
        """The log-density of one site, scaled and masked, with the site's batch shape."""
        if "scaled_log_prob" not in node:
            raw = self.raw_log_prob(node)
            node["scaled_log_prob"] = scale_and_mask(raw, node["scale"], node["mask"])
        return node["scaled_log_prob"]

    def raw_log_prob(self, node: Node) -> Tensor:
        """The log-density of one site as its distribution gives it."""
        if "raw_log_prob" not in node:
            node["raw_log_prob"] = _log_prob(node)
        return node["raw_log_prob"]

    def total(self, values: Iterable[Part | tuple[Node, Tensor]]) -> Tensor:
        """The sum over sites of batch-shaped values, per datum, shape (particles, data).

        The run remembers what a total is made of, for the costs of single sites.
        """
        parts = [value if isinstance(value, Part) else Part(*value) for value in values]
        data = [self.per_datum(part.node, part.value) for part in parts]
        total = sum(data[1:], start=data[0]) if data else torch.zeros(1, 1, device=self.device)
        total = total.expand(self.num_particles, self.batch_rows)
        self._totals.append((total, parts))
        return total

    def parts_of(self, total: Tensor) -> list[Part] | None:
        """What one of this run's totals is made of; None for any other tensor."""
        return next((parts for known, parts in self._totals if known is total), None)

    def share(self, node: Node) -> float:
        """What a site's scaled value is multiplied by so that the sum over its plates is its share in the objective."""
        if not self.is_local(node):
            return 1.0 / self.data_size
        frame = self._data_frame
        subsampled = frame is not None and frame.full_size != frame.size
        return (frame.size / frame.full_size if subsampled else 1.0) / self.batch_rows  # type: ignore[union-attr]

    def batch_layout(self, value: Tensor) -> Tensor:
        """A batch-shaped value with a dim for the particles and one for each plate dim."""
        missing = self.structure.max_plate_nesting + 1 - value.dim()
        return value.reshape((1,) * missing + tuple(value.shape))

    def per_datum(self, node: Node, value: Tensor) -> Tensor:
        """A site's scaled value per datum: a subsampled plate's scale undone, a global site spread over the data."""
        summed = self.sum_to_datum(node, value)
        if not self.is_local(node):
            return summed / self.data_size
        frame = self._data_frame
        if frame is None or frame.full_size == frame.size:
            return summed
        return summed * (frame.size / frame.full_size)

    def sum_to_datum(self, node: Node, value: Tensor) -> Tensor:
        """A site's batch-shaped value summed to (particles, data), or to (particles, 1) when it is global."""
        nesting, data_dim = self.structure.max_plate_nesting, self.structure.data_dim
        value = value.reshape((1,) * (nesting + 1 - value.dim()) + tuple(value.shape))
        local = self.is_local(node)
        others = [dim for dim in range(-nesting, 0) if not (local and dim == data_dim)]
        value = value.sum(others) if others else value
        return value.reshape(value.shape[0], -1)

    def is_local(self, node: Node) -> bool:
        """Whether a traced site lies inside the data plate."""
        if node["name"] in self._latent_names:
            return self.structure.is_local(node["name"])
        return any(f.name == self.structure.data_plate for f in node["cond_indep_stack"])

    @cached_property
    def _latent_names(self) -> frozenset[str]:
        return frozenset(site.name for site in self.structure.latent)

    def select(self, nodes: dict[str, Node], sites: tuple[str, ...], where: str) -> list[Node]:
        """The nodes of the named sites, or all of them when no name is given.

        Raises:
            UnknownNameError: When a name is not among the nodes; the message offers the nearest.
        """
        for name in sites:
            if name not in nodes:
                raise UnknownNameError("site", name, nodes, f"in {where}")
        return [node for name, node in nodes.items() if not sites or name in sites]

    @cached_property
    def device(self) -> torch.device:
        """Where the data lie, or the parameters when there are no data."""
        tensors = (*self.args, *self.kwargs.values(), *self.program.parameters())
        return next((t.device for t in tensors if isinstance(t, Tensor)), torch.device("cpu"))


class Traced:
    """The sample sites of one trace, sorted by what they are."""

    def __init__(self, trace: poutine.Trace) -> None:
        self.trace = trace
        sites = sample_sites(trace)
        self.nodes = {name: node for name, node in sites.items() if not is_deterministic(node)}
        self.deterministic = {name: node for name, node in sites.items() if is_deterministic(node)}

    @cached_property
    def observed(self) -> list[Node]:
        """Observed sites and factors."""
        return [node for node in self.nodes.values() if node["is_observed"]]

    @cached_property
    def latent(self) -> dict[str, Node]:
        """Sites that are not observed; in a guide also its auxiliary ones."""
        return {name: node for name, node in self.nodes.items() if not node["is_observed"]}


def _log_prob(node: Node) -> Tensor:
    try:
        return node["fn"].log_prob(node["value"], *node["args"], **node["kwargs"])
    except (ValueError, RuntimeError, IndexError) as error:
        fn, value = node["fn"], node["value"]
        raise ProgramError(
            f"site '{node['name']}' cannot price its value: {type(fn).__name__} with batch shape "
            f"{tuple(fn.batch_shape)} and event shape {tuple(fn.event_shape)} received {tuple(value.shape)}, values "
            f"in [{value.min():.4g}, {value.max():.4g}], where its support is {fn.support}. Remedy: check the data "
            f"for that site, and .to_event of its distribution."
        ) from error
