"""The score-function surrogate: a zero whose gradient is what the pathwise gradient leaves out.

Convention of this module: costs are what is maximised, per datum; a local site pays for its own datum only.
"""

from __future__ import annotations

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_genmodels.objectives.run import Run
from ppl_genmodels.structure import Node

__all__ = ["score_function_sites", "score_function_surrogate"]


def score_function_sites(run: Run) -> list[Node]:
    """The guide's latent sites that have no reparameterization."""
    return [node for node in run.guide.latent.values() if not node["fn"].has_rsample]


def score_function_surrogate(run: Run, linear: Tensor | None, mixed: Tensor | None) -> Tensor | float:
    r"""The sum over score-function sites of :math:`\log q \cdot (c - b)` with its value removed.

    The baseline :math:`b` is the mean of the other particles' costs; with one particle, of the other data's costs,
    which do not depend on this datum's draw; with one particle of a global site there is none.

    Args:
        run: The run.
        linear: Values in which each particle stands alone, shape (particles, data), if any.
        mixed: Values in which all particles of a datum enter, shape (1, data), if any.

    Returns:
        A scalar with value zero.

    References:
        Williams (1992), REINFORCE; Mnih and Rezende (2016), equation 8, for the leave-one-out baseline.
    """
    total: Tensor | float = 0.0
    for node in score_function_sites(run):
        log_q = run.sum_to_datum(node, scale_and_mask(run.raw_log_prob(node), 1.0, node["mask"]))
        if linear is not None:
            own = _cost(run, node, linear)
            total = total + _without_value((log_q * (own - leave_one_out(own))).mean())
        if mixed is not None:
            total = total + _without_value((log_q * _cost(run, node, mixed)).sum(0).mean())
    return total


def _cost(run: Run, node: Node, values: Tensor) -> Tensor:
    """What a site's draw costs: its own datum's values, or for a global site the mean over the data."""
    values = values.detach()
    return values if run.is_local(node) else values.mean(-1, keepdim=True)


def _without_value(score: Tensor) -> Tensor:
    return score - score.detach()


def leave_one_out(cost: Tensor) -> Tensor:
    """For each entry the mean of the others: along particles, or along data when there is one particle.

    Args:
        cost: Shape (particles, data).

    Example:
        >>> leave_one_out(torch.tensor([[1.0], [3.0]]))
        tensor([[3.],
                [1.]])
    """
    for dim in (0, 1):
        if cost.shape[dim] > 1:
            return (cost.sum(dim, keepdim=True) - cost) / (cost.shape[dim] - 1)
    return torch.zeros_like(cost)
