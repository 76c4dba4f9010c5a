r"""Variational walkback: one random step, learned so that it leads back to the data from wherever it led away.

Convention of this module: state ``s_0`` is the datum ``x``, and ``s_t`` the state after :math:`t` steps away from it;
the step between ``s_{t-1}`` and ``s_t`` has the temperature :math:`T_t = g^{t-1}` in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_rows, missing_data
from ppl_genmodels.networks import MLP
from ppl_genmodels.networks.sizes import check_size

__all__ = ["Walkback"]


@register("walkback")
class Walkback(nn.Module):
    r"""Rows of numbers at the end of a cooled walk whose steps are one transition operator.

    .. math:: p_T(s' \mid s) = \mathcal N\bigl(s + \tfrac12 (F(s) - s), \; T \sigma^2(s)\bigr)

    The model starts from a learned normal distribution at the hottest temperature and cools; the guide walks away from
    the data by the same operator while it heats.

    .. math:: p(x, s) = p(s_K) \prod_{t=1}^K p_{T_t}(s_{t-1} \mid s_t), \quad
        q(s \mid x) = \prod_{t=1}^K p_{T_t}(s_t \mid s_{t-1}), \quad s_0 = x

    Fitted by ``elbo()`` in two ways. With :meth:`guide` the gradient is the bound's own, through the walk too. With the
    pair ``(program.model, program.walk)`` the walk is taken as it is and the operator learns to undo it, step by step:
    the gradient is that of :math:`\sum_t \log p_{T_t}(s_{t-1} \mid s_t) + \log p(s_K)` alone, as in the paper. The
    value is the bound either way, but the second gradient is not the bound's: an operator whose walk it shortens is
    not held back, so that its variance falls below the bound's best.

    Args:
        data_dim: Length of a row.
        hidden: Widths of the hidden layers of :math:`F` and :math:`\sigma^2`.
        steps: How many steps the walk has, :math:`K`.
        noise: Standard deviation of a step at temperature 1 before training, in units of ``data_scale``.
        growth: What each further step multiplies the temperature by, :math:`g`.
        data_scale: The data's standard deviation, about.

    Raises:
        OptionError: When a size is no positive integer, ``noise`` or ``data_scale`` is not positive, or ``growth`` is
            below 1.

    References:
        Goyal, Ke, Ganguli and Bengio (2017), Variational Walkback: Learning a Transition Operator as a Stochastic
        Recurrent Net, sections 2 and 3 and algorithm 1.

    Example:
        >>> from ppl_genmodels.objectives import elbo
        >>> program = Walkback(data_dim=2, hidden=(16,), steps=3)
        >>> sorted(elbo().evaluate(program, torch.zeros(5, 2)))
        ['kl', 'log_lik']
        >>> elbo().loss((program.model, program.walk), torch.zeros(5, 2)).shape
        torch.Size([])
        >>> program.generate(5).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        data_dim: int,
        hidden: Iterable[int] = (64, 64),
        steps: int = 8,
        noise: float = 0.1,
        growth: float = 2.0,
        data_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.data_dim, self.steps = check_size("Walkback", "data_dim", data_dim), check_size("Walkback", "steps", steps)
        for name, value, least in (("noise", noise, 0), ("data_scale", data_scale, 0)):
            if not value > least:
                raise OptionError(f"Walkback: {name}={value}, expected a positive number.")
        if not growth >= 1:
            raise OptionError(f"Walkback: growth={growth}, expected 1 or more. Remedy: growth=2.0.")
        self.growth, self.data_scale = growth, data_scale
        self.network = MLP(data_dim, 2 * data_dim, hidden, nn.SiLU)
        self.loc = nn.Parameter(torch.zeros(data_dim))
        self.log_scale = nn.Parameter(torch.full((data_dim,), math.log(self._spread(noise))))
        last = self.network.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias[:data_dim])
        nn.init.constant_(last.bias[data_dim:], math.log(math.expm1(noise**2)))

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``data_dim`` and ``data_scale``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, data_dim)``.
        """
        x = data_rows(data, "x", "Walkback")
        return {"data_dim": x.shape[1], "data_scale": float(np.nanstd(x))}

    @property
    def temperatures(self) -> list[float]:
        """Of the steps away from the data, the coldest first."""
        return [self.growth**number for number in range(self.steps)]

    def transition(self, state: Tensor, temperature: float) -> Any:
        r"""The operator: the distribution of the next state, in either direction.

        Args:
            state: Shape (\*batch, data_dim).
            temperature: What the variance is multiplied by.
        """
        pull, raw = self.network(state / self.data_scale).chunk(2, -1)
        mean = torch.lerp(state, self.data_scale * pull, _PULL)
        return dist.Normal(mean, self.data_scale * (temperature * softplus(raw)).sqrt()).to_event(1)

    def start(self) -> Any:
        """The distribution of the hottest state."""
        return dist.Normal(self.loc, self.log_scale.exp()).to_event(1)

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws data by the cooled walk, or conditions on them.

        Args:
            x: Data to condition on, ``(rows, data_dim)``; one row is drawn by default.

        Returns:
            The rows, observed or drawn.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        with pyro.plate("data", 1 if x is None else self._checked_rows(x)):
            state = pyro.sample(f"s_{self.steps}", self.start())
            for number in range(self.steps, 1, -1):
                state = pyro.sample(f"s_{number - 1}", self.transition(state, self.growth ** (number - 1)))
            return pyro.sample("x", self.transition(state, 1.0), obs=x)

    def guide(self, x: Tensor | None = None) -> None:
        """Walks away from the data.

        Args:
            x: Data, ``(rows, data_dim)``.

        Raises:
            ProgramError: When there are no data.
        """
        if x is None:
            raise missing_data(self, "x")
        with pyro.plate("data", self._checked_rows(x)):
            state = x
            for number, temperature in enumerate(self.temperatures, 1):
                state = pyro.sample(f"s_{number}", self.transition(state, temperature))

    @torch.no_grad()
    def walk(self, x: Tensor | None = None) -> None:
        """The guide without gradients, for the gradient of the way back alone.

        Args:
            x: Data, ``(rows, data_dim)``.

        Raises:
            ProgramError: When there are no data.
        """
        self.guide(x)

    @torch.no_grad()
    def follow(self, state: Tensor, temperatures: Sequence[float]) -> Tensor:
        r"""The state after one step at each of some temperatures, in turn.

        Args:
            state: Shape (\*batch, data_dim).
            temperatures: Of the steps.
        """
        for temperature in temperatures:
            state = self.transition(state, temperature).sample()
        return state

    @torch.no_grad()
    def generate(self, rows: int, cold: int = 0) -> Tensor:
        """Draws data by the cooled walk, and goes on at temperature 1.

        Args:
            rows: How many.
            cold: How many further steps at temperature 1.

        Returns:
            Data, ``(rows, data_dim)``.
        """
        return self.follow(self.start().sample((rows,)), [*self.temperatures[::-1], *[1.0] * cold])

    def _spread(self, noise: float) -> float:
        """The standard deviation of the hottest state of data of this scale, before training."""
        variance = self.data_scale**2
        for temperature in self.temperatures:
            variance = (1 - _PULL) ** 2 * variance + temperature * (noise * self.data_scale) ** 2
        return math.sqrt(variance)

    def _checked_rows(self, x: Tensor) -> int:
        check_dtype(self, "x", x, like=self.loc)
        return check_rows(self, "x", x, (self.data_dim,))


_PULL = 0.5
"""How far a step goes towards what the network points at."""
