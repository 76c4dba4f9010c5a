r"""The eight schools: effects of coaching, measured with known errors, partially pooled.

Convention of this module: one row is one school; effects are in points of the test score.
``schools`` is the plate of the data; the pooled mean and spread are global.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.errors import DataError
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows

__all__ = ["EIGHT_SCHOOLS", "EightSchools"]

EIGHT_SCHOOLS: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "y": (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0),
        "sigma": (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0),
    }
)
"""Estimated effects ``y`` and their standard errors ``sigma`` in schools A to H (Rubin 1981, table
1)."""


@register("eight_schools")
class EightSchools(nn.Module):
    r"""Effects of coaching in eight schools, partially pooled (Rubin 1981).

    .. math:: \mu \sim \mathcal{N}(0, 5^2), \quad \tau \sim \mathrm{HalfCauchy}(5), \quad
        \theta_j = \mu + \tau \eta_j, \ \eta_j \sim \mathcal{N}(0, 1), \quad y_j \sim
        \mathcal{N}(\theta_j, \sigma_j^2)

    Sites ``mu`` and ``tau`` are global; ``eta``, the deterministic ``theta`` and ``y`` are in the
    plate ``schools``. The effects are written non-centred, because the centred posterior narrows to
    a funnel as :math:`\tau \to 0`.

    References:
        Rubin (1981), Estimation in Parallel Randomized Experiments; Gelman, Carlin, Stern, Dunson,
        Vehtari and Rubin (2013), Bayesian Data Analysis, section 5.5; for the priors, Gelman
        (2006), Prior Distributions for Variance Parameters in Hierarchical Models.

    Example:
        >>> program = EightSchools()
        >>> program.model(**program.data()).shape
        torch.Size([8])
    """

    mu_loc: Tensor
    prior_scale: Tensor
    eta_scale: Tensor
    sigma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mu_loc", torch.zeros(()), persistent=False)
        self.register_buffer("prior_scale", torch.tensor(5.0), persistent=False)
        self.register_buffer("eta_scale", torch.ones(()), persistent=False)
        self.register_buffer("sigma", torch.tensor(EIGHT_SCHOOLS["sigma"]), persistent=False)

    @classmethod
    def data(cls) -> dict[str, Tensor]:
        """Rubin's data as arguments of the model: ``y`` and ``sigma``, each of shape ``(8,)``.

        Example:
            >>> EightSchools.data()["y"][0]
            tensor(28.)
        """
        return {name: torch.tensor(values) for name, values in EIGHT_SCHOOLS.items()}

    def model(self, y: Tensor | None = None, sigma: Tensor | None = None) -> Tensor:
        """Draws the pooled mean and spread, each school's effect, and its estimate.

        Args:
            y: Estimated effects to condition on, ``(schools,)``; drawn by default.
            sigma: Their standard errors, ``(schools,)``; those of Rubin's eight schools by default.

        Returns:
            The estimates, observed or drawn.

        Raises:
            DataError: When an argument has another shape or dtype.
        """
        sigma = self.sigma if sigma is None else sigma
        schools = self._checked_schools(y, sigma)
        mu = pyro.sample("mu", dist.Normal(self.mu_loc, self.prior_scale))
        tau = pyro.sample("tau", dist.HalfCauchy(self.prior_scale))
        with pyro.plate("schools", schools):
            eta = pyro.sample("eta", dist.Normal(self.mu_loc, self.eta_scale))
            theta = pyro.deterministic("theta", mu + tau * eta, event_dim=0)
            return pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    def _checked_schools(self, y: Tensor | None, sigma: Tensor) -> int:
        schools = check_rows(self, "sigma", sigma, ())
        check_dtype(self, "sigma", sigma, like=self.mu_loc)
        if y is None:
            return schools
        if sigma is self.sigma and y.shape != sigma.shape:
            raise DataError(
                f"EightSchools: 'y' has shape {tuple(y.shape)}, and without 'sigma', which is "
                f"known for Rubin's schools, (8,) is expected. Remedy: model(y, sigma) with the "
                f"standard errors."
            )
        check_rows(self, "y", y, (), schools)
        check_dtype(self, "y", y, like=self.mu_loc)
        return schools

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """None: it has no options."""
        return {}
