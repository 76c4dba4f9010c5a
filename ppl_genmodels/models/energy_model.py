r"""An energy-based model of rows of numbers.

Convention of this module: one observed site ``x`` in the plate ``data``; no latent sites and no guide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions.energy import Energy
from ppl_genmodels.distributions.langevin import check_step_size
from ppl_genmodels.distributions.replay_buffer import ReplayBuffer
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_rows
from ppl_genmodels.networks import MLP
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives import Objective, noise_contrastive
from ppl_genmodels.transforms import ActNorm

__all__ = ["EnergyModel"]


@register("energy_model")
class EnergyModel(nn.Module):
    r"""Density of rows of numbers by an energy: a normal density, tilted by a network.

    .. math:: p(x) = \mathcal N(x; \mu, s^2) \, e^{f(x)} / Z

    Location and scale are those of the first data of a fit, and stay; the network begins at zero, so that the model
    begins as that normal density, with :math:`\log Z = 0`. It is fitted by ``noise_contrastive("x")`` unless another
    objective is given, which learns :math:`\log Z` too. After ``contrastive_divergence("x")`` or
    ``score_matching("x")`` estimate it by :func:`~ppl_genmodels.inference.annealed_importance`. Not by ``elbo()``,
    which leaves it out.

    Args:
        data_dim: Length of a row.
        hidden: Widths of the hidden layers.
        steps: Of the chains that draws are the ends of.
        step_size: Of the chains, for rows that are standard.
        chains: How many chains go on through training, for ``contrastive_divergence(persistent=True)``.

    Raises:
        OptionError: When a size is no positive integer, or the step's size is not positive.

    References:
        Xie, Lu, Zhu and Wu (2016), A Theory of Generative ConvNet, equation 3, for the tilted normal density.

    Example:
        >>> from ppl_genmodels.objectives import score_matching
        >>> program = EnergyModel(data_dim=2, hidden=(16,), steps=5)
        >>> score_matching("x", noise=0.1).loss(program, torch.randn(5, 2)).shape
        torch.Size([])
        >>> program.model().shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        data_dim: int,
        hidden: Sequence[int] = (128, 128),
        steps: int = 100,
        step_size: float = 0.1,
        chains: int = 1000,
    ) -> None:
        super().__init__()
        self.data_dim = check_size("EnergyModel", "data_dim", data_dim)
        self.steps = check_size("EnergyModel", "steps", steps)
        self.step_size = check_step_size("EnergyModel", step_size)
        self.network = _TiltedNormal(self.data_dim, hidden)
        self.log_normalizer = nn.Parameter(torch.zeros(()))
        self.chains = ReplayBuffer((self.data_dim,), check_size("EnergyModel", "chains", chains))

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``data_dim``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, data_dim)``.
        """
        return {"data_dim": data_rows(data, "x", cls.__name__).shape[1]}

    def default_objective(self) -> Objective:
        """Telling data from four times as many draws of the normal density."""
        return noise_contrastive("x", ratio=4)

    def density(self) -> Energy:
        """The distribution of a row, normalised when ``log_normalizer`` is learned or estimated."""
        size = self.step_size * self.network.scale.square()
        return Energy(
            self.network, (self.data_dim,), self.log_normalizer, self.network.base(), self.steps, size, self.chains
        )

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws a row, or conditions on rows.

        Args:
            x: Data to condition on, ``(rows, data_dim)``; one row is drawn by default.

        Returns:
            The rows, observed or drawn.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        if x is not None:
            check_dtype(self, "x", x, like=self.log_normalizer)
        with pyro.plate("data", 1 if x is None else check_rows(self, "x", x, (self.data_dim,))):
            return pyro.sample("x", self.density(), obs=x)


class _TiltedNormal(nn.Module):
    """The energy of a normal density, less a network that begins at zero."""

    def __init__(self, features: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.standard = ActNorm(features).requires_grad_(False)
        self.tilt = MLP(features, 1, hidden, activation=nn.SiLU)
        linear = [layer for layer in self.tilt.layers if isinstance(layer, nn.Linear)]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # torch's own are too flat to bend soon
        nn.init.zeros_(linear[-1].weight)
        nn.init.zeros_(linear[-1].bias)

    @property
    def scale(self) -> Tensor:
        return self.standard.log_scale.exp()

    def base(self) -> Any:
        return dist.Normal(self.standard.loc, self.scale, validate_args=False).to_event(1)

    def forward(self, x: Tensor) -> Tensor:
        standard, ladj = self.standard.inverse_pass(x, None)
        normal = 0.5 * standard.square().sum(-1) + 0.5 * x.shape[-1] * math.log(2 * math.pi) + ladj
        return normal - self.tilt(standard).squeeze(-1)
