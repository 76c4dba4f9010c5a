r"""Linear regressions: programs whose latents are global, shared by all rows.

Convention of this module: covariates ``x`` are always given, responses ``y`` are observed or, by
default, drawn. The plate ``data`` runs over rows. Priors suit covariates and responses that are
standardised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_index, check_rows, data_array
from ppl_genmodels.networks.sizes import check_size

__all__ = ["HierarchicalRegression", "LinearRegression"]


@register("linear_regression")
class LinearRegression(nn.Module):
    r"""Bayesian linear regression with known noise, whose posterior is known in closed form.

    .. math:: \alpha \sim \mathcal{N}(0, \tau^2), \quad \beta \sim \mathcal{N}(0, \tau^2 I), \quad
        y_i \sim \mathcal{N}(\alpha + x_i^\top \beta, \sigma^2)

    Sites ``intercept`` and ``slope`` are global, ``y`` is in the plate ``data``.

    Args:
        num_features: Number of covariates.
        prior_scale: :math:`\tau`, in units of the response.
        noise_scale: :math:`\sigma`, in units of the response.

    Raises:
        OptionError: When ``num_features`` is no positive integer, or a scale is not positive.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 3.3.

    Example:
        >>> program = LinearRegression(num_features=3)
        >>> program.model(torch.zeros(5, 3)).shape
        torch.Size([5])
    """

    prior_loc: Tensor
    prior_scale: Tensor
    noise_scale: Tensor

    def __init__(self, num_features: int, prior_scale: float = 1.0, noise_scale: float = 1.0) -> None:
        super().__init__()
        self.num_features = check_size("LinearRegression", "num_features", num_features)
        _check_scale("prior_scale", prior_scale)
        _check_scale("noise_scale", noise_scale)
        self.register_buffer("prior_loc", torch.zeros(()), persistent=False)
        self.register_buffer("prior_scale", torch.tensor(float(prior_scale)), persistent=False)
        self.register_buffer("noise_scale", torch.tensor(float(noise_scale)), persistent=False)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Draws the coefficients and the responses.

        Args:
            x: Covariates, ``(rows, num_features)``.
            y: Responses to condition on, ``(rows,)``; drawn by default.

        Returns:
            The responses, observed or drawn.

        Raises:
            DataError: When an argument has another shape or dtype.
        """
        rows = _checked_rows(self, x, y, self.num_features, like=self.prior_loc)
        prior = dist.Normal(self.prior_loc, self.prior_scale)
        intercept = pyro.sample("intercept", prior)
        slope = pyro.sample("slope", prior.expand([self.num_features]).to_event(1))
        with pyro.plate("data", rows):
            mean = intercept + (slope * x).sum(-1)
            return pyro.sample("y", dist.Normal(mean, self.noise_scale), obs=y)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``num_features``, the columns of the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, num_features)``.
        """
        return {"num_features": _columns(data, "LinearRegression")}


@register("hierarchical_regression")
class HierarchicalRegression(nn.Module):
    r"""Linear regression whose intercepts are partially pooled between groups.

    .. math:: \mu \sim \mathcal{N}(0, 1), \quad \tau \sim \mathcal{N}^+(1), \quad
        \alpha_j = \mu + \tau \eta_j, \ \eta_j \sim \mathcal{N}(0, 1)
    .. math:: \beta \sim \mathcal{N}(0, I), \quad \sigma \sim \mathcal{N}^+(1), \quad
        y_i \sim \mathcal{N}(\alpha_{j[i]} + x_i^\top \beta, \sigma^2)

    The intercepts are written non-centred, so that :math:`\tau` and :math:`\eta` are nearly
    independent in the posterior when a group has few rows. Sites ``intercept_mean``,
    ``intercept_scale``, ``slope`` and ``noise_scale`` are global; ``intercept_offset`` and the
    deterministic ``intercept`` are in the plate ``groups``; ``y`` is in the plate ``data``.

    Args:
        num_features: Number of covariates.
        num_groups: Number of groups.

    Raises:
        OptionError: When a size is no positive integer.

    References:
        Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models,
        chapter 12; Papaspiliopoulos, Roberts and Skold (2007), A General Framework for the
        Parametrization of Hierarchical Models.

    Example:
        >>> program = HierarchicalRegression(num_features=3, num_groups=2)
        >>> program.model(torch.zeros(5, 3), torch.tensor([0, 0, 1, 1, 1])).shape
        torch.Size([5])
    """

    zero: Tensor
    one: Tensor

    def __init__(self, num_features: int, num_groups: int) -> None:
        super().__init__()
        self.num_features = check_size("HierarchicalRegression", "num_features", num_features)
        self.num_groups = check_size("HierarchicalRegression", "num_groups", num_groups)
        self.register_buffer("zero", torch.zeros(()), persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)

    def model(self, x: Tensor, group: Tensor, y: Tensor | None = None) -> Tensor:
        """Draws the coefficients, the groups' intercepts and the responses.

        Args:
            x: Covariates, ``(rows, num_features)``.
            group: The group of each row, integers ``(rows,)`` from 0 to ``num_groups - 1``.
            y: Responses to condition on, ``(rows,)``; drawn by default.

        Returns:
            The responses, observed or drawn.

        Raises:
            DataError: When an argument has another shape or dtype, or a group is out of range.
        """
        rows = self._checked_rows(x, group, y)
        standard, positive = dist.Normal(self.zero, self.one), dist.HalfNormal(self.one)
        intercept_mean = pyro.sample("intercept_mean", standard)
        intercept_scale = pyro.sample("intercept_scale", positive)
        slope = pyro.sample("slope", standard.expand([self.num_features]).to_event(1))
        noise_scale = pyro.sample("noise_scale", positive)
        with pyro.plate("groups", self.num_groups):
            offset = pyro.sample("intercept_offset", standard)
            intercept = pyro.deterministic("intercept", intercept_mean + intercept_scale * offset, event_dim=0)
        with pyro.plate("data", rows):
            # index_select, unlike indexing, refuses negative positions.
            mean = intercept.index_select(-1, group) + (slope * x).sum(-1)
            return pyro.sample("y", dist.Normal(mean, noise_scale), obs=y)

    def _checked_rows(self, x: Tensor, group: Tensor, y: Tensor | None) -> int:
        rows = _checked_rows(self, x, y, self.num_features, like=self.zero)
        check_rows(self, "group", group, (), rows)
        check_index(self, "group", group, self.num_groups, "num_groups")
        return rows

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``num_features``, columns of ``x``, and ``num_groups``, the largest ``group`` plus one.

        Raises:
            UnknownNameError: When the data have no array ``x`` or ``group``.
            DataError: When ``x`` is not of shape ``(rows, num_features)``.
        """
        columns = _columns(data, "HierarchicalRegression")
        group = data_array(data, "group", "HierarchicalRegression")
        return {"num_features": columns, "num_groups": int(group.max()) + 1}


def _checked_rows(program: nn.Module, x: Tensor, y: Tensor | None, num_features: int, like: Tensor) -> int:
    rows = check_rows(program, "x", x, (num_features,))
    check_dtype(program, "x", x, like)
    if y is not None:
        check_rows(program, "y", y, (), rows)
        check_dtype(program, "y", y, like)
    return rows


def _check_scale(name: str, value: float) -> None:
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise OptionError(
            f"LinearRegression: {name}={value!r}, expected a positive number. "
            f"Remedy: set {name} to a standard deviation in units of the response."
        )


def _columns(data: Mapping[str, np.ndarray], program: str) -> int:
    x = data_array(data, "x", program)
    if x.ndim != 2:
        raise DataError(
            f"{program}: array 'x' has shape {x.shape}, expected (rows, num_features). "
            f"Remedy: x[:, None] for one covariate."
        )
    return int(x.shape[1])
