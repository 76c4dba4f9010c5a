r"""The exact gradient of an objective whose latent sites all have finitely many values.

Convention of this module: a joint value gives every latent site, and every element of it apart from the data, one of
its values, the same for all data. Joint values are the particles of a run, so that each datum's sum is over them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.handlers.estimator import NamedAtSites, base_of
from ppl_genmodels.handlers.instead import instead
from ppl_genmodels.objectives import Objective, Run
from ppl_genmodels.program import Program
from ppl_genmodels.structure import Node

__all__ = ["enumerated_gradient", "number_of_values"]

MOST_VALUES = 2048
"""Programs with more joint values are not enumerated."""

CHUNK = 256
"""Joint values of one run, at most."""


def enumerated_gradient(
    program: Program, objective: Objective, args: tuple[Any, ...], kwargs: dict[str, Any], parameters: list[Tensor]
) -> list[Tensor] | None:
    r"""The gradient of :math:`E_q[f]`, all joint values summed over with their probabilities.

    .. math:: \nabla \frac1N \sum_n \sum_v q(v \mid x_n) \, f(v, x_n)

    Args:
        program: The program.
        objective: What is maximised.
        args: Data, as the model takes them by position.
        kwargs: Data, as the model takes them by name.
        parameters: By what to differentiate.

    Returns:
        A tensor for each parameter; None when some site has not finitely many values, when there are more than 2048
        joint values, or when a term mixes particles.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from ppl_genmodels.objectives import elbo
        >>> guide = torch.nn.Linear(1, 1)
        >>> def model(x):
        ...     pyro.sample("y", dist.Bernoulli(0.5))
        >>> def guided(x):
        ...     pyro.sample("y", dist.Bernoulli(logits=guide.bias[0]))
        >>> _ = guide.bias.data.fill_(1.0)
        >>> enumerated_gradient(Program(model, guided), elbo(), (None,), {}, [guide.bias])
        [tensor([-0.1966])]
    """
    with torch.no_grad(), instead(dict.fromkeys(site.name for site in program.structure(*args, **kwargs).latent)):
        run = Run(program, args, kwargs)
        count = number_of_values(run)
    if count is None or not 1 < count <= MOST_VALUES or any(each.term.mixes_particles for each in objective.weighted):
        return None
    values = _joint_values(run, count)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for part in torch.arange(count).tensor_split(min(count // 2, math.ceil(count / CHUNK))):  # one has no plate
        expected = _expected(program, objective, args, kwargs, {name: value[part] for name, value in values.items()})
        found = torch.autograd.grad(expected, parameters, materialize_grads=True)
        total = [one + other for one, other in zip(total, found, strict=True)]
    return total


def number_of_values(run: Run) -> int | None:
    """How many joint values the latent sites have; None when one of them has not finitely many.

    Args:
        run: A run of the program.
    """
    count = 1
    for node in run.guide.latent.values():
        fn = base_of(node["fn"])
        if not getattr(fn, "has_enumerate_support", False) or node["mask"] is not None:
            return None
        try:
            count *= len(fn.enumerate_support(expand=False)) ** math.prod(_elements(run, node))
        except NotImplementedError:  # such as binomials of different counts
            return None
    return count


def _elements(run: Run, node: Node) -> list[int]:
    """The shape of a site's independent elements in batch layout, 1 along particles and data."""
    fn, nesting = node["fn"], run.structure.max_plate_nesting
    batch = [1] * (nesting + 1 - len(fn.batch_shape)) + list(fn.batch_shape)
    if run.is_local(node):
        batch[run.structure.data_dim] = 1
    return batch + list(fn.event_shape[: len(fn.event_shape) - base_of(fn).event_dim])


def _joint_values(run: Run, count: int) -> dict[str, Tensor]:
    r"""For each site its values, shape (joint values, \*batch, \*event), in batch layout, of size 1 along the data."""
    rest, found = torch.arange(count, device=run.device), {}
    for name, node in run.guide.latent.items():
        fn, elements = base_of(node["fn"]), _elements(run, node)
        support = fn.enumerate_support(expand=False)
        support = support.reshape(len(support), *fn.event_shape)
        digits = []
        for _ in range(math.prod(elements)):
            digits.append(rest % len(support))
            rest = rest // len(support)
        chosen = support[torch.stack(digits, -1)]
        found[name] = chosen.reshape(count, *elements[1:], *fn.event_shape)
    return found


def _expected(
    program: Program, objective: Objective, args: tuple[Any, ...], kwargs: dict[str, Any], held: dict[str, Tensor]
) -> Tensor:
    """The objective at some joint values, each times its probability: summed over them, averaged over the data."""
    with instead(dict.fromkeys(held)):
        run = Run(program, args, kwargs, len(next(iter(held.values()))))
        with NamedAtSites(), _Held(held):
            run.__dict__["guide"] = run.trace_particles(program.guide)  # type: ignore[arg-type]
        values = objective.values(run).values()
        total = sum(each.at(0) * value for each, value in zip(objective.weighted, values, strict=True))
        log_q = sum(run.sum_to_datum(node, run.raw_log_prob(node)) for node in run.guide.latent.values())
        return (log_q.exp() * total).sum(0).mean()  # type: ignore[union-attr]


class _Held(Messenger):
    """Gives sites their values."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value, fn = self.values[msg["name"]], msg["fn"]
            shape = torch.broadcast_shapes(value.shape, fn.batch_shape + fn.event_shape)
            msg["value"], msg["done"] = value.expand(shape), True
