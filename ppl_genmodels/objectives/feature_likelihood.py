r"""The likelihood of data as a network sees them: a Gaussian of features in the place of a density of pixels.

Convention of this module: the network is called with values of shape (rows, \*event), particles being rows, and gives
their features, shape (rows, \*features); what it learns, it learns elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Normal

from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term
from ppl_genmodels.objectives.two_sides import arguments

__all__ = ["feature_log_lik"]


def feature_log_lik(site: str, features: Callable[[Tensor], Tensor]) -> Objective:
    r"""The expected log-density of the data's features, normal about those of the reconstructions.

    .. math:: E_{q(z \mid x)} \log \mathcal N(f(x); f(\hat x(z)), I)

    The reconstruction :math:`\hat x` is the value of a deterministic site, or the mean of an observed one. Features of
    a critic are a similarity that is learned together with the model. It is a density of features, not of data: it
    changes when they do, and evidences by it do not compare.

    Reduction: summed over the features, averaged over particles and data; in nats.

    Args:
        site: Name of an observed site, or of a deterministic one with an argument of the model of the same name.
        features: The network.

    Raises:
        OptionError: When the features cannot be called.
        UnknownNameError: When a run has no such site, or the model no argument of its name.
        ProgramError: When the reconstructions have another shape than the data.

    References:
        Larsen, Sønderby, Larochelle and Winther (2016), Autoencoding beyond pixels using a learned similarity metric,
        equations 7 and 8.

    Example:
        >>> from torch import nn
        >>> print(feature_log_lik("x", nn.Linear(6, 3)))
        E_q[log p(f(x)|z)]
    """
    if not callable(features):
        raise OptionError(
            f"feature_log_lik: features={features!r}, expected a network. Remedy: feature_log_lik('x', network)."
        )
    values = partial(_values, site=site, features=features)
    formula, latex = f"E_q[log p(f({site})|z)]", rf"\mathbb{{E}}_q[\log p(f({site}) \mid z)]"
    return Objective.of(Term(f"feature_log_lik[{site}]", formula, latex, values))


def _values(run: Run, site: str, features: Callable[[Tensor], Tensor]) -> Tensor:
    """The log-density of each datum's features, shape (particles, rows)."""
    data, told = _data_and_reconstructions(run, site)
    if told.shape[-data.dim() :] != data.shape:
        raise ProgramError(
            f"feature_log_lik: '{site}' has reconstructions of shape {tuple(told.shape)} for data of shape "
            f"{tuple(data.shape)}. Remedy: one of the event's shape for each row."
        )
    both = torch.cat([data, told.expand(run.num_particles, *data.shape).flatten(0, 1)])
    seen, remade = features(both).flatten(1).split((len(data), len(both) - len(data)))
    return Normal(remade.unflatten(0, (-1, len(data))), 1.0).log_prob(seen).sum(-1)


def _data_and_reconstructions(run: Run, site: str) -> tuple[Tensor, Tensor]:
    observed = {node["name"]: node for node in run.model.observed}
    if site in observed:
        return observed[site]["value"], observed[site]["fn"].mean
    given, made = arguments(run), run.model.deterministic
    if site not in made:
        raise UnknownNameError("site", site, {**observed, **made}, "observed or deterministic, in feature_log_lik")
    if site not in given:
        raise UnknownNameError("argument", site, given, "of the model, in feature_log_lik")
    return given[site], made[site]["value"]
