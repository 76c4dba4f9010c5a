r"""What the paths of continuous flows cost: penalties that make them straight, slow, and cheap to solve.

Convention of this module: costs are no nats but squared lengths, divided by the number of features; they belong to the
paths that the log-density of the same run was computed along.
"""

from __future__ import annotations

from functools import partial

import torch
from pyro.distributions.util import sum_rightmost
from torch import Tensor

from ppl_genmodels.distributions import Flow
from ppl_genmodels.objectives.continuous_sites import continuous_sites, to_site
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node

__all__ = ["jacobian_norm", "kinetic_energy"]


def kinetic_energy(*sites: str) -> Objective:
    r"""The kinetic energy of the paths of continuous flows, :math:`\int_0^1 \|f(x_t, t)\|^2 dt / d`.

    Subtracted from a log-likelihood it makes the paths straight and their speed constant, as in optimal transport. It
    is integrated with the log-density, and needs no solve of its own.

    Reduction: summed over a datum's sites and over the continuous layers of each, averaged over particles and data.

    Args:
        *sites: Names of sites, of the model or the guide, whose distribution is a
            :class:`~ppl_genmodels.distributions.Flow` with a :class:`~ppl_genmodels.transforms.Continuous` layer; none
            means all of them.

    Raises:
        UnknownNameError: When a run has no site of that name.
        ProgramError: When a site is no continuous flow, or none is.

    References:
        Finlay, Jacobsen, Nurbekyan and Oberman (2020), How to Train Your Neural ODE: the World of Jacobian and Kinetic
        Regularization.

    Example:
        >>> from ppl_genmodels.objectives import elbo
        >>> print(elbo() - 0.01 * kinetic_energy("x"))
        E_q[log p(x|z)] - KL[q(z|x) || p(z)] - 0.01 * E_q[∫|dx/dt|²dt / d]
    """
    latex = r"\mathbb{E}_q[\tfrac{1}{d} \int_0^1 \|\dot x_t\|^2 dt]"
    return _term("kinetic_energy", sites, f"E_q[∫|d{_shown(sites)}/dt|²dt / d]", latex)


def jacobian_norm(*sites: str) -> Objective:
    r"""The squared norm of the Jacobian along the paths of continuous flows.

    .. math:: \int_0^1 \|\partial f / \partial x_t\|_F^2 \, dt / d

    Subtracted from a log-likelihood it keeps near paths together, so that solvers may take long steps. With
    Hutchinson's trace it is an unbiased estimate from the same noise. It needs no solve of its own.

    Reduction: as :func:`kinetic_energy`.

    Args:
        *sites: As :func:`kinetic_energy`.

    Raises:
        UnknownNameError: As :func:`kinetic_energy`.
        ProgramError: As :func:`kinetic_energy`.

    References:
        As :func:`kinetic_energy`.

    Example:
        >>> print(jacobian_norm("x"))
        E_q[∫|∂f/∂x|²dt / d]
    """
    latex = r"\mathbb{E}_q[\tfrac{1}{d} \int_0^1 \|\partial f / \partial x_t\|_F^2 dt]"
    return _term("jacobian_norm", sites, f"E_q[∫|∂f/∂{_shown(sites)}|²dt / d]", latex)


def _shown(sites: tuple[str, ...]) -> str:
    return ",".join(sites) or "x"


def _term(cost: str, sites: tuple[str, ...], formula: str, latex: str) -> Objective:
    return Objective.of(Term(named(cost, sites), formula, latex, partial(_values, cost, sites)))


def _values(cost: str, sites: tuple[str, ...], run: Run) -> Tensor:
    found = continuous_sites(run, sites, called(cost, sites))
    return run.total((node, to_site(node, _cost(run, node, flow, cost))) for node, flow in found)


def _cost(run: Run, node: Node, flow: Flow, cost: str) -> Tensor:
    """The cost of all layers of a site's flow, of the flow's batch shape."""
    run.raw_log_prob(node)  # which solves for the paths, unless the run has done so
    of_layers = torch.stack([getattr(costs, cost) for costs in flow.path_costs]).sum(0)
    return sum_rightmost(of_layers, len(flow.event_shape) - 1)
