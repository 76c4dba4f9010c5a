"""Sites whose distribution is a continuous flow, found behind what plates and handlers put around it.

Convention of this module: a quantity of the flow has the flow's batch shape, and is brought to the site's as a
log-density is.
"""

from __future__ import annotations

from typing import Any

from pyro.distributions.torch import Independent
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.distributions.util import scale_and_mask, sum_rightmost
from torch import Tensor

from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.structure import Node
from ppl_genmodels.transforms import Continuous

__all__ = ["continuous_layers", "continuous_sites", "flow_of", "to_site"]


def flow_of(fn: Any) -> Flow | None:
    """The flow in a distribution, or None.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> flow = Flow(dist.Normal(torch.zeros(4, 2), 1.0).to_event(1), [Continuous(2)])
        >>> flow_of(flow.mask(False).to_event(1)) is flow, flow_of(dist.Normal(0.0, 1.0))
        (True, None)
    """
    while not isinstance(fn, Flow):
        if not hasattr(fn, "base_dist"):
            return None
        fn = fn.base_dist
    return fn


def continuous_layers(flow: Flow) -> list[tuple[int, Continuous, Tensor | None]]:
    """The continuous layers of a flow: the place of each among the transforms, the layer, and its context.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> flow = Flow(dist.Normal(torch.zeros(2), 1.0).to_event(1), [Continuous(2)])
        >>> [number for number, _, _ in continuous_layers(flow)]
        [0]
    """
    found = []
    for number, transform in enumerate(flow.transforms):
        layer = getattr(transform, "bijection", transform)
        if isinstance(layer, Continuous):
            found.append((number, layer, getattr(transform, "context", None)))
    return found


def continuous_sites(run: Run, sites: tuple[str, ...], where: str, with_guide: bool = True) -> list[tuple[Node, Flow]]:
    """The sites of a run that are continuous flows, all of them or those named, with their flows.

    Args:
        run: The run.
        sites: The names.
        where: The call that asks, for messages.
        with_guide: Whether to look in the guide too.

    Raises:
        UnknownNameError: When there is no site of a name.
        ProgramError: When a named site is none, or there is none at all.
    """
    parts = (run.guide, run.model) if with_guide else (run.model,)
    nodes = [node for part in parts for node in part.nodes.values()]
    run.select({node["name"]: node for node in nodes}, sites, where)
    flows = [(node, flow_of(node["fn"])) for node in nodes if not sites or node["name"] in sites]
    found = [(node, flow) for node, flow in flows if flow is not None and continuous_layers(flow)]
    missed = set(sites) - {node["name"] for node, _ in found}
    if missed or not found:
        named = f"the distribution of site '{min(missed)}' is no" if missed else "no site's distribution is a"
        raise ProgramError(
            f"{where}: {named} flow with a continuous layer. Remedy: Flow(base, [Continuous(features)]) for the site."
        )
    return found


def to_site(node: Node, value: Tensor) -> Tensor:
    """A value of the flow's batch shape in the batch shape of its site, masked and scaled as the site is."""
    return scale_and_mask(_reduced(node["fn"], value), node["scale"], node["mask"])


def _reduced(fn: Any, value: Tensor) -> Tensor:
    if isinstance(fn, Flow):
        return value
    value = _reduced(fn.base_dist, value)
    if isinstance(fn, Independent):
        return sum_rightmost(value, fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        return scale_and_mask(value, mask=fn._mask)
    return value.expand(fn.batch_shape)
