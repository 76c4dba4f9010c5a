r"""The local expectation: a site's own values are summed over, one element at a time, instead of drawn.

Convention of this module: both estimators cost one evaluation of the program for each other value of each element,
made in one vectorised run.
"""

from __future__ import annotations

from typing import Any

from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.handlers.estimator import Estimator, Site
from ppl_genmodels.handlers.finite import flips_of, is_finite, remember_probs
from ppl_genmodels.handlers.later import KEPT, REDRAWN
from ppl_genmodels.handlers.score_function import leave_one_out
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["LocalExpectation", "ReparameterizeAndMarginalize", "local_expectation", "reparameterize_and_marginalize"]


class _Summed(Estimator):
    """A site whose values are summed over, one element at a time."""

    serves_what = "Bernoulli, Categorical, OneHotCategorical, Binomial and TruncatedPoisson sites"

    def serves(self, fn: Any) -> bool:
        return is_finite(fn)

    def transform(self, msg: Message) -> None:
        remember_probs(msg["fn"])


class LocalExpectation(_Summed):
    r"""Local expectation gradients: the score function, averaged over a site's values given all other draws.

    .. math:: \sum_v q(v \mid z_{\setminus i}) \, \nabla \log q(v \mid \mathrm{pa}) \, f(v, z_{\setminus i})

    The weights are the values' probabilities given the draws before the site and after it. Where those after it tell
    the value, one weight is one and the score function is left; so the mean cost of the other particles, or with one
    particle of the other data, is subtracted from :math:`f`. Unbiased.

    Args:
        sites: Which sites; by default all with finitely many values.

    References:
        Titsias and Lázaro-Gredilla (2015), Local Expectation Gradients for Black Box Variational Inference.

    Example:
        >>> type(local_expectation(sites="y")).__name__
        'LocalExpectation'
    """

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient sums over the values of each element."""
        flips = flips_of(site)
        cost, log_after = (flips.by_value(each) for each in site.alternatives(flips.draws, KEPT))
        weight = (flips.log_prob.detach() + log_after).softmax(1)
        rest = cost - leave_one_out(cost[0, 0], site.data_dim)
        return _without_value(site, flips.log_prob * (weight * rest))


class ReparameterizeAndMarginalize(_Summed):
    r"""Reparameterization and marginalization: the exact derivative in one element given the noise of all others.

    .. math:: \sum_v \nabla q(v \mid \mathrm{pa}) \, f(v, z_{>i}(v, \epsilon))

    Draws after the site follow each value by the same noise. Unbiased, and of the least variance among the estimators
    that use the score of this element and what can be computed from the others' noise.

    Args:
        sites: Which sites; by default all with finitely many values.

    References:
        Tokui and Sato (2017), Evaluating the Variance of Likelihood-Ratio Gradient Estimators, section 4 and theorem 3.

    Example:
        >>> type(reparameterize_and_marginalize(sites="y")).__name__
        'ReparameterizeAndMarginalize'
    """

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient sums over the values of each element."""
        flips = flips_of(site)
        cost, _ = site.alternatives(flips.draws, REDRAWN)
        return _without_value(site, flips.log_prob.exp() * flips.by_value(cost))


def local_expectation(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`LocalExpectation` applied to a callable or a program; the handler itself without one."""
    return applied(LocalExpectation(sites), target)


def reparameterize_and_marginalize(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`ReparameterizeAndMarginalize` applied to a callable or a program; the handler itself without one."""
    return applied(ReparameterizeAndMarginalize(sites), target)


def _without_value(site: Site, values: Tensor) -> Tensor:
    total = values.sum() / len(site.log_prob)
    return total - total.detach()
