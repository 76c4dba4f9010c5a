r"""Distributions made sharper or broader by a temperature.

Convention of this module: temperature 1 changes nothing; towards 0 a distribution narrows to where it is densest. The
standard deviation of numbers is multiplied by :math:`T`, which makes a normal density proportional to
:math:`p(x)^{1 / T^2}`, as flows have it; the logits of what is discrete are divided by it, which makes a probability
proportional to :math:`p(k)^{1 / T}`, as the softmax has it.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch.distributions as torch_dist
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor

from ppl_genmodels.distributions.flow import Flow
from ppl_genmodels.distributions.mixture import Mixture
from ppl_genmodels.distributions.quantized import Quantized
from ppl_genmodels.errors import OptionError

__all__ = ["at_temperature"]


@singledispatch
def at_temperature(distribution: Any, temperature: float | Tensor) -> Any:
    r"""A distribution at a temperature.

    Of a Normal, univariate or multivariate, the standard deviation is multiplied. Of a flow, and of whatever else
    bijections carry, the base distribution is at the temperature: where volumes are preserved the density is
    proportional to :math:`p^{1 / T^2}`. Of a Bernoulli or a categorical the logits are divided. A mixture has both its
    choice and its components at the temperature. What is no source of chance (a point mass, a quantized value) stays as
    it is.

    Args:
        distribution: Of torch, Pyro or this library.
        temperature: :math:`T > 0`, a number or a scalar tensor.

    Raises:
        OptionError: When it is not known what a temperature does to the distribution.

    References:
        Kingma and Dhariwal (2018), Glow, section 5.2 and 6; Parmar and others (2018), Image Transformer, section 5.

    Example:
        >>> import torch
        >>> at_temperature(dist.Normal(1.0, torch.tensor(2.0)), 0.5).scale
        tensor(1.)
        >>> at_temperature(dist.Categorical(logits=torch.tensor([0.0, 1.0])), 0.5).probs
        tensor([0.1192, 0.8808])
    """
    raise OptionError(
        f"at_temperature: {type(distribution).__name__} has no known form at another temperature. It serves Normal, "
        f"MultivariateNormal, Bernoulli, Categorical, OneHotCategorical, their mixtures, and flows. Remedy: name the "
        f"sites to be changed, sites=..., or register one, at_temperature.register({type(distribution).__name__})."
    )


@at_temperature.register(torch_dist.Normal)
def _normal(distribution: Any, temperature: float | Tensor) -> Any:
    return dist.Normal(distribution.loc, distribution.scale * temperature, validate_args=False)


@at_temperature.register(torch_dist.MultivariateNormal)
def _multivariate_normal(distribution: Any, temperature: float | Tensor) -> Any:
    scale_tril = distribution.scale_tril * temperature
    return dist.MultivariateNormal(distribution.loc, scale_tril=scale_tril, validate_args=False)


@at_temperature.register(torch_dist.Bernoulli)
def _bernoulli(distribution: Any, temperature: float | Tensor) -> Any:
    return dist.Bernoulli(logits=distribution.logits / temperature, validate_args=False)


@at_temperature.register(torch_dist.Categorical)
@at_temperature.register(torch_dist.OneHotCategorical)
def _categorical(distribution: Any, temperature: float | Tensor) -> Any:
    return type(distribution)(logits=distribution.logits / temperature, validate_args=False)


@at_temperature.register
def _flow(distribution: Flow, temperature: float | Tensor) -> Flow:
    return Flow(at_temperature(distribution.base_dist, temperature), distribution.transforms, validate_args=False)


@at_temperature.register(torch_dist.TransformedDistribution)
def _transformed(distribution: Any, temperature: float | Tensor) -> Any:
    base = at_temperature(distribution.base_dist, temperature)
    return dist.TransformedDistribution(base, distribution.transforms, validate_args=False)


@at_temperature.register
def _mixture(distribution: Mixture, temperature: float | Tensor) -> Mixture:
    components = [at_temperature(each, temperature) for each in distribution.components]
    return Mixture(distribution.logits / temperature, components, validate_args=False)


@at_temperature.register(torch_dist.Independent)
def _independent(distribution: Any, temperature: float | Tensor) -> Any:
    return at_temperature(distribution.base_dist, temperature).to_event(distribution.reinterpreted_batch_ndims)


@at_temperature.register
def _expanded(distribution: ExpandedDistribution, temperature: float | Tensor) -> Any:
    return at_temperature(distribution.base_dist, temperature).expand(distribution.batch_shape)


@at_temperature.register
def _masked(distribution: MaskedDistribution, temperature: float | Tensor) -> Any:
    return at_temperature(distribution.base_dist, temperature).mask(distribution._mask)


@at_temperature.register(Quantized)
@at_temperature.register(dist.Delta)
def _certain(distribution: Any, temperature: float | Tensor) -> Any:
    return distribution
