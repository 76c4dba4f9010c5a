r"""Flow matching: the velocity of a continuous flow learned by regression, without solving for any path.

Convention of this module: noise :math:`x_0` is at time 0 and data :math:`x_1` at time 1; a pair moves along the
line :math:`x_t = (1 - t) x_0 + t x_1` at the velocity :math:`x_1 - x_0`.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.objectives.continuous_sites import continuous_layers, continuous_sites, to_site
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node
from ppl_genmodels.transforms import Continuous

__all__ = ["flow_matching"]

Pairing = Literal["independent", "optimal_transport"]


def flow_matching(*sites: str, pairing: Pairing = "independent") -> Objective:
    r"""Minus the squared error of a continuous flow's velocity on straight lines from noise to data.

    .. math:: -\mathbb{E}_{t, x_0, x_1} \|f(x_t, t) - (x_1 - x_0)\|^2 / d

    Its optimum is the velocity that carries the noise to the data, whose log-density the fitted flow then gives by
    solving. Pairs are independent, or those of the whole run are matched so that the noise travels least, which makes
    the paths straighter. Values are taken as data: no gradient passes to a guide, nor to the layers after the
    continuous one, such as ActNorm, which are inverted first.

    Reduction: a mean over features, summed over a datum's sites and inner plates, averaged over particles and data.

    Args:
        *sites: Names of sites of the model whose distribution is a :class:`~ppl_genmodels.distributions.Flow` with one
            :class:`~ppl_genmodels.transforms.Continuous` layer, its first; none means all continuous flows.
        pairing: ``"independent"``, or ``"optimal_transport"`` within a run; the latter not for flows with a context,
            whose noise would come to depend on it.

    Raises:
        OptionError: When the pairing is neither, or is not for this flow.
        UnknownNameError: When a run has no site of that name.
        ProgramError: When a site is no such flow.

    References:
        Lipman, Chen, Ben-Hamu, Nickel and Le (2023), Flow Matching for Generative Modeling, theorem 2 and example II;
        Tong and others (2024), Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal
        Transport, section 3.

    Example:
        >>> print(flow_matching("x"))
        -E[|f(x_t,t) - (x_1 - x_0)|²/d]
    """
    if pairing not in get_args(Pairing):
        raise OptionError(f"flow_matching: pairing is 'independent' or 'optimal_transport', got {pairing!r}.")
    shown = ",".join(sites) or "x"
    formula = f"-E[|f({shown}_t,t) - ({shown}_1 - {shown}_0)|²/d]"
    latex = r"-\mathbb{E} \|f(x_t, t) - (x_1 - x_0)\|^2 / d"
    return Objective.of(Term(named("flow_matching", sites), formula, latex, partial(_values, sites, pairing)))


def _values(sites: tuple[str, ...], pairing: Pairing, run: Run) -> Tensor:
    where = called("flow_matching", sites)
    found = continuous_sites(run, sites, where, with_guide=False)
    return run.total((node, -to_site(node, _squared_error(node, flow, pairing, where))) for node, flow in found)


def _squared_error(node: Node, flow: Flow, pairing: Pairing, where: str) -> Tensor:
    """The mean over features, of the flow's batch shape."""
    layer, context = _only_layer(flow, node["name"], where)
    if pairing == "optimal_transport" and context is not None:
        raise OptionError(
            f"{where}: site '{node['name']}' has a context, and noise that is matched to data would depend on it. "
            f"Remedy: pairing='independent'."
        )
    noise, data = _pairs(flow, node["value"], pairing)
    time = torch.rand_like(data[..., :1])
    velocity = layer.velocity(time, torch.lerp(noise, data, time), context)
    return (velocity - (data - noise)).square().mean(-1)


def _only_layer(flow: Flow, name: str, where: str) -> tuple[Continuous, Tensor | None]:
    layers = continuous_layers(flow)
    if len(layers) > 1 or layers[0][0] > 0 or len(flow.event_shape) > 1:
        found = ", ".join(type(getattr(each, "bijection", each)).__name__ for each in flow.transforms)
        raise ProgramError(
            f"{where}: the flow of site '{name}' has the transforms {found} of events of shape "
            f"{tuple(flow.event_shape)}, expected vectors and one Continuous layer before all others. Remedy: put the "
            f"other layers after it, towards the data, or fit by elbo()."
        )
    return layers[0][1], layers[0][2]


@torch.no_grad()
def _pairs(flow: Flow, value: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """Noise and data, both of the flow's batch and event shape."""
    data = value.expand(flow.batch_shape + flow.event_shape)
    for transform in reversed(flow.transforms[1:]):
        data = transform.inv(data)
    noise = flow.base_dist.sample().expand_as(data)
    if pairing == "independent":
        return noise, data
    rows, others = data.flatten(0, -2), noise.flatten(0, -2)
    return others[assignment(torch.cdist(rows, others).square())].reshape(data.shape), data


@torch.library.custom_op("ppl_genmodels::assignment", mutates_args=())
def assignment(cost: Tensor) -> Tensor:
    """For each row the column that it is assigned to where all together cost least; one operation of a traced graph.

    Example:
        >>> assignment(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        tensor([1, 0])
    """
    _, columns = linear_sum_assignment(cost.double().cpu().numpy())
    return torch.as_tensor(columns, device=cost.device)


@assignment.register_fake
def _(cost: Tensor) -> Tensor:
    return cost.new_empty(cost.shape[0], dtype=torch.int64)
