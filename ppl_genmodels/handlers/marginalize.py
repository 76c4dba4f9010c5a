r"""Marginalization: a site's own values are summed over with their probabilities, in the objective's value too.

Convention of this module: the guide draws the site as ever, so that every term has its estimate; the objective is
changed by the exact sum less what the draw gave.
"""

from __future__ import annotations

from typing import Any

from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import Estimator, Site
from ppl_genmodels.handlers.finite import flips_of, is_finite, remember_probs
from ppl_genmodels.handlers.later import REDRAWN
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["Marginalize", "marginalize"]


class Marginalize(Estimator):
    r"""The exact sum over the values of one finite site, for model and guide.

    .. math:: \sum_v q(v) \, f(v, z_{>}(v, \epsilon)) \quad\text{for}\quad f(v_\text{drawn}, z_>)

    Value and gradient hold no noise of this site: draws after it follow each value by the same noise. With nothing else
    drawn both are exact. The terms that are shown beside the objective stay those of the draw. Several marginalized
    sites are each summed over by themselves, which is unbiased and not exact; make one site of all their joint values
    for that. Costs one evaluation of the program for each value, with gradient, in one vectorised run. Unbiased.

    Args:
        sites: Which sites; by default all with finitely many values. Each has one element for each datum.

    References:
        Ranganath, Gerrish and Blei (2014), Black Box Variational Inference, section 3.1, for the conditional
        expectation; agrees with :class:`pyro.infer.TraceEnum_ELBO` on a site marked ``enumerate="parallel"``.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from ppl_genmodels.objectives import elbo
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         y = pyro.sample("y", dist.Bernoulli(0.5))
        ...         pyro.sample("x", dist.Normal(y, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("y", dist.Bernoulli(0.7))
        >>> program = marginalize((model, guide))
        >>> bool((elbo().loss(program, torch.ones(4)) - elbo().loss(program, torch.ones(4))).abs() < 1e-6)
        True
    """

    serves_what = "Bernoulli, Categorical, OneHotCategorical, Binomial and TruncatedPoisson sites"

    def serves(self, fn: Any) -> bool:
        """Finitely many values, given without ``Independent`` around it."""
        return is_finite(fn)

    def transform(self, msg: Message) -> None:
        """Makes the probabilities before plates repeat them for every value."""
        remember_probs(msg["fn"])

    def surrogate(self, site: Site) -> Tensor | float:
        """The exact sum less what the draw gave; not a zero.

        Raises:
            ProgramError: When the site has several elements for a datum.
        """
        flips = flips_of(site)
        if len(flips.log_prob) > 1:
            raise ProgramError(
                f"site '{site.name}': Marginalize sums over a site with one element for each datum, got "
                f"{len(flips.log_prob)} elements, whose joint values multiply. Remedy: LocalExpectation sums over one "
                f"element at a time."
            )
        drawn = site.objective.sum() / len(site.objective)
        cost, _ = site.alternatives(flips.draws, REDRAWN, gradient=True)
        expected = (flips.log_prob.exp() * flips.by_value(cost)).sum() / len(cost[0])
        return expected - drawn


def marginalize(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`Marginalize` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(marginalize(sites="y")).__name__
        'Marginalize'
    """
    return applied(Marginalize(sites), target)
