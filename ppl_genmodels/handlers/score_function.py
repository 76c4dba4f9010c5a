r"""The score function: the gradient of the log-density of a draw, times what the draw costs.

Convention of this module: a baseline does not depend on the draw that it is subtracted for, which keeps the gradient
unbiased.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from pyro.distributions import Delta
from pyro.poutine.runtime import Message
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers.drawn_only import drawn_only
from ppl_genmodels.handlers.estimator import Estimator, Site
from ppl_genmodels.handlers.learned_baseline import LearnedBaseline
from ppl_genmodels.handlers.running_mean import RunningMean
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["ScoreFunction", "leave_one_out", "score_function"]

Baseline = Literal["none", "leave_one_out", "running_mean", "vimco"]


class ScoreFunction(Estimator):
    r"""The score-function estimator, :math:`\nabla \log q \cdot (c - b)`, for any site with a density.

    The cost :math:`c` is what the draw has an influence on: sites that depend on it, in its own repetitions of the
    plates. Unbiased.

    Args:
        sites: Which sites; by default all but Delta ones. No other gradient passes their draws.
        baseline: ``"leave_one_out"``, the mean cost of the other particles, or with one particle of the other data of
            the batch; ``"running_mean"``, the moving average of the costs of earlier steps, zero at the first, one
            number for each site, in nats of a datum; ``"vimco"``, as leave-one-out, and in terms that mix the particles
            the term with this particle's log-weight replaced by the mean of the others'; or ``"none"``. A module is a
            learned baseline: it maps the data, flattened, shape (data, features), to what the running mean does not
            foresee of the cost, shape (data, 1), and is trained for that, by least squares, beside the program; each
            site has a copy. Terms that mix the particles have the running mean with a running or learned baseline, none
            with the others.

    Raises:
        OptionError: When the baseline is none of these.
        ProgramError: When a learned baseline does not give one number for each datum.

    References:
        Williams (1992), Simple statistical gradient-following algorithms; Mnih and Rezende (2016), Variational
        Inference for Monte Carlo Objectives; Mnih and Gregor (2014), Neural Variational Inference and Learning in
        Belief Networks, for the learned baseline, here without their scaling by a running variance; Schulman and others
        (2015), Gradient Estimation Using Stochastic Computation Graphs, theorem 1, for the restriction to what is
        downstream.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with ScoreFunction("y"), pyro.poutine.trace() as traced:
        ...     _ = pyro.sample("y", dist.Bernoulli(0.3))
        >>> type(traced.trace.nodes["y"]["infer"]["gradient"]).__name__
        'ScoreFunction'
    """

    def __init__(self, sites: Sites = None, baseline: Baseline | nn.Module = "leave_one_out") -> None:
        super().__init__(sites)
        self.baseline = baseline
        self.state = _state(baseline)
        """What it remembers from step to step; a part of the program that it is applied to."""

    serves_what = "sites with a density, no Delta"

    def serves(self, fn: Any) -> bool:
        """Whether it is drawn at all, given without ``Independent`` around it."""
        return not isinstance(fn, Delta)

    def take(self, msg: Message) -> None:
        """Takes a site, and makes room for what is remembered of it."""
        super().take(msg)
        if self.state is not None:
            self.state.add(msg["name"], _device_of(msg["fn"]))

    @property
    def _memory(self) -> RunningMean:
        return self.state.running if isinstance(self.state, LearnedBaseline) else self.state  # type: ignore[return-value]

    def transform(self, msg: Message) -> None:
        """Lets no gradient through the draw, which the score stands for."""
        msg["fn"] = drawn_only(msg["fn"]) if msg["fn"].has_rsample else msg["fn"]

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient is the score times the cost less the baseline."""
        cost, mixed = self._centered(site)
        weighted = (site.log_prob * cost.detach()).sum() / len(site.log_prob)
        if mixed is not None:
            weighted = weighted + (site.log_prob * mixed).sum()
        if isinstance(self.state, LearnedBaseline):
            weighted = weighted + self.state.fit_of(cost)
        return weighted - weighted.detach()

    def _centered(self, site: Site) -> tuple[Tensor, Tensor | None]:
        """The costs less their baselines."""
        cost, mixed = site.cost, site.mixed_cost
        if self.state is not None:
            now = torch.stack([cost.mean(), cost.new_zeros(()) if mixed is None else mixed.mean()])
            earlier = self._memory(site.name, now / site.share) * site.share
            cost, mixed = cost - earlier[0], None if mixed is None else mixed - earlier[1]
            return (cost - self.state(site) if isinstance(self.state, LearnedBaseline) else cost), mixed
        if self.baseline == "vimco" and mixed is not None:
            mixed = mixed - site.mixed_baseline
        return cost if self.baseline == "none" else cost - leave_one_out(cost, site.data_dim), mixed


def score_function(target: Any = None, *, sites: Sites = None, baseline: Baseline | nn.Module = "leave_one_out") -> Any:
    """:class:`ScoreFunction` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(score_function(sites="y")).__name__
        'ScoreFunction'
    """
    return applied(ScoreFunction(sites, baseline), target)


def leave_one_out(cost: Tensor, data_dim: int | None = -1) -> Tensor:
    """For each entry the mean of the others: along particles, or along the data when there is one particle.

    Args:
        cost: Shape (particles, \\*plates).
        data_dim: The dim of the data, or None when their costs depend on one another.

    Example:
        >>> leave_one_out(torch.tensor([[1.0], [3.0]]))
        tensor([[3.],
                [1.]])
    """
    for dim in (0, data_dim):
        if dim is not None and cost.shape[dim] > 1:
            return (cost.sum(dim, keepdim=True) - cost) / (cost.shape[dim] - 1)
    return torch.zeros_like(cost)


def _state(baseline: Any) -> RunningMean | LearnedBaseline | None:
    """What a baseline remembers.

    Raises:
        OptionError: When there is no such baseline.
    """
    if isinstance(baseline, nn.Module):
        return LearnedBaseline(baseline)
    if baseline not in get_args(Baseline):
        known = ", ".join(map(repr, get_args(Baseline)))
        raise OptionError(f"baseline is one of {known} or a module, which is learned; got {baseline!r}.")
    return RunningMean() if baseline == "running_mean" else None


def _device_of(fn: Any) -> torch.device | None:
    """Where the parameters of a distribution lie."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    found = (getattr(fn, name, None) for name in fn.arg_constraints)
    return next((value.device for value in found if isinstance(value, Tensor)), None)
