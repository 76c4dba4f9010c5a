r"""Lipschitz-margin training: the log-likelihood of labels by scores that give every other class a head start.

Convention of this module: the labels are an observed Categorical site in the plate of the data, whose logits a network
reads off the input; distances are in the units of that input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.networks.operator_norms import lipschitz_bound, operator_norm
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term
from ppl_genmodels.structure import Node

__all__ = ["lipschitz_margin"]


def lipschitz_margin(
    site: str, network: nn.Sequential, event_shape: Sequence[int], radius: float, steps: int = 10
) -> Objective:
    r"""The log-likelihood of labels that are to be told with a margin that certifies a radius.

    .. math:: \log \mathrm{softmax}(s_1 + \sqrt 2 c L, \dots, s_k, \dots, s_K + \sqrt 2 c L)_k

    To each score but that of the label :math:`k` is added what the score could gain over it within the distance
    :math:`c`, where :math:`L` is the network's Lipschitz bound, so that a decision is rewarded which holds in the whole
    ball. The gradient is that of the scores and of the bound.

    Reduction: averaged over particles and data.

    Args:
        site: Name of the label's site.
        network: What gives the logits, a part of the program.
        event_shape: Shape of one input of the network.
        radius: The distance to be certified, :math:`c`; with 0 it is the log-likelihood.
        steps: Power iterations for each layer's norm.

    Raises:
        OptionError: When the radius is negative, or a number of steps no positive integer.
        UnknownNameError: When a run has no observed site of that name.
        ProgramError: When the site has no logits.

    References:
        Tsuzuku, Sato and Sugiyama (2018), Lipschitz-Margin Training: Scalable Certification of Perturbation Invariance
        for Deep Neural Networks, algorithm 1.

    Example:
        >>> print(lipschitz_margin("y", nn.Sequential(nn.Linear(4, 3)), (4,), radius=0.1))
        E_q[log p(y|x, within 0.1)]
    """
    if not radius >= 0:
        raise OptionError(f"lipschitz_margin: radius={radius}, expected 0 or more. Remedy: radius=0.1.")
    iterations = check_size("lipschitz_margin", "steps", steps)
    margin = _Margin(site, network, tuple(event_shape), radius, partial(operator_norm, steps=iterations))
    latex = rf"\mathbb{{E}}_q \log p_{{{radius:g}}}({site} \mid x)"
    formula = f"E_q[log p({site}|x, within {radius:g})]"
    return Objective.of(Term(f"lipschitz_margin[{site}]", formula, latex, margin.values))


class _Margin:
    """The term's values."""

    def __init__(
        self,
        site: str,
        network: nn.Sequential,
        event_shape: tuple[int, ...],
        radius: float,
        norm: Callable[[nn.Module, Sequence[int]], Tensor],
    ) -> None:
        self.site, self.network, self.event_shape, self.radius, self.norm = site, network, event_shape, radius, norm

    def values(self, run: Run) -> Tensor:
        """The log-likelihood with the head start, shape (particles, data)."""
        observed = {node["name"]: node for node in run.model.observed}
        (node,) = run.select(observed, (self.site,), f"lipschitz_margin('{self.site}')")
        logits, label = _logits(node), node["value"].unsqueeze(-1).long()
        start = math.sqrt(2) * self.radius * lipschitz_bound(self.network, self.event_shape, self.norm)
        own = torch.zeros_like(logits).scatter(-1, label.expand(*logits.shape[:-1], 1), 1.0)
        log_prob = (logits + start * (1 - own)).log_softmax(-1).mul(own).sum(-1)
        return run.total([(node, scale_and_mask(log_prob, node["scale"], node["mask"]))])


def _logits(node: Node) -> Tensor:
    fn = node["fn"]
    logits = getattr(getattr(fn, "base_dist", fn), "logits", None)
    if fn.event_dim or not isinstance(logits, Tensor) or logits.shape[:-1] != fn.batch_shape:
        raise ProgramError(
            f"lipschitz_margin: site '{node['name']}' is {type(fn).__name__}, expected a Categorical, with one label "
            f"for each row. Remedy: dist.Categorical(logits=network(x))."
        )
    return logits
