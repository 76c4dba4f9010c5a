"""Variational families: for each support the distributions that a guide gives to a site.

Convention of this module: the family is chosen by the support of the prior, which says what a value
may be, and by nothing else of the prior but the number of categories or trials.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.guides.families.base import Distribution, Family
from ppl_genmodels.guides.families.discrete import (
    BernoulliFamily,
    BinomialFamily,
    CategoricalFamily,
    MultinomialFamily,
    OneHotFamily,
    PoissonFamily,
)
from ppl_genmodels.guides.families.normal import INITIAL_SCALE, TransformedNormal
from ppl_genmodels.guides.families.support import base_support, constant_support
from ppl_genmodels.structure import is_delta

__all__ = ["INITIAL_SCALE", "Family", "family_of"]

_SUPPORTED = (
    "every continuous support with a registered bijection (real, positive, bounded, simplex, ordered, correlation "
    "matrices), Bernoulli, Categorical, OneHotCategorical, Binomial, Poisson, Multinomial"
)


def family_of(node: dict[str, Any], data_dim: int | None = None) -> Family:
    """The family for one latent site.

    Args:
        node: The site in a trace of the model.
        data_dim: The batch dim of the rows; None when the site lies outside the data plate.

    Raises:
        ProgramError: When no family serves its support, or its support is not the same for every
            datum.

    Example:
        >>> import torch
        >>> type(family_of({"name": "z", "fn": dist.Gamma(torch.ones(4), 1.0)}, -1)).__name__
        'TransformedNormal'
    """
    name, prior = node["name"], node["fn"]
    if is_delta(node):
        raise ProgramError(
            f"site '{name}' is a Delta, which has no density to infer. "
            f'Remedy: pyro.deterministic("{name}", value) in the model.'
        )
    rows_dim = None if data_dim is None else data_dim - len(prior.event_shape)
    support = constant_support(name, prior.support, rows_dim)
    family = _discrete(prior, support) if support.is_discrete else _continuous(prior, support)
    if family is None:
        raise ProgramError(
            f"site '{name}': no family for {type(_innermost(prior)).__name__} on {support}. Served: {_SUPPORTED}. "
            f"Remedy: marginalize the site, transform it onto one of these, or write the guide by hand."
        )
    return family


def _continuous(prior: Distribution, support: Constraint) -> Family | None:
    try:
        biject_to(support)
    except NotImplementedError:
        return None
    return TransformedNormal(support, prior.event_shape)


def _discrete(prior: Distribution, support: Constraint) -> Family | None:
    support, event_shape = base_support(support), prior.event_shape
    if isinstance(support, type(constraints.boolean)):
        return BernoulliFamily(event_shape)
    if isinstance(support, type(constraints.one_hot)):
        return OneHotFamily(event_shape)
    if isinstance(support, constraints.multinomial):
        return MultinomialFamily(event_shape, int(support.upper_bound))
    if isinstance(support, constraints.integer_interval) and support.lower_bound == 0:
        # Classes and counts have one and the same support.
        if isinstance(_innermost(prior), dist.Categorical):
            return CategoricalFamily(event_shape, int(support.upper_bound) + 1)
        return BinomialFamily(event_shape, support.upper_bound)
    if isinstance(support, type(constraints.nonnegative_integer)) and support.lower_bound == 0:
        return PoissonFamily(event_shape)
    return None


def _innermost(prior: Distribution) -> Distribution:
    wrappers = (dist.Independent, dist.MaskedDistribution, dist.ExpandedDistribution)
    while isinstance(prior, wrappers):
        prior = prior.base_dist
    return prior
