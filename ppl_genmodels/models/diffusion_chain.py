r"""A diffusion as a chain of latent sites, whose evidence bound is the sum of its steps' divergences.

Convention of this module: site ``z_i`` is the noisy value at time :math:`i / T`, from ``z_T``, noise, to ``z_0``, whose
noise is the least; ``x`` is the datum.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions.reverse_step import posterior, reverse_step
from ppl_genmodels.models.checks import check_dtype, check_rows, missing_data
from ppl_genmodels.networks.sizes import check_size

__all__ = ["DiffusionChain"]


class DiffusionChain(nn.Module):
    r"""The reverse chain of a denoiser as a model, and the forward chain as its guide.

    .. math:: p(x, z) = p(x \mid z_0) \, p(z_T) \prod_{i=1}^T q(z_{i-1} \mid z_i, x = \hat x(z_i)), \quad
        q(z \mid x) = q(z_T \mid x) \prod_{i=1}^T q(z_{i-1} \mid z_i, x)

    The guide draws from noise to data as the model does, so that every divergence is in closed form. Its bound is what
    ``denoising(steps=T)`` estimates at one step.

    Args:
        flow: The probability flow of the denoiser, for its event shape and base.
        steps: :math:`T`.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics, section 2; Ho, Jain and Abbeel (2020), equations 3 to 7.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> from ppl_genmodels.objectives import elbo
        >>> from ppl_genmodels.transforms import ProbabilityFlow
        >>> chain = DiffusionChain(ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,)), steps=3)
        >>> list(elbo().evaluate(chain, torch.zeros(5, 2)))
        ['log_lik', 'kl']
    """

    def __init__(self, flow: Any, steps: int) -> None:
        super().__init__()
        self.flow, self.steps = flow, check_size("DiffusionChain", "steps", steps)

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws data by the reverse chain, or conditions on them.

        Args:
            x: Shape (rows, \\*event); one row is drawn by default.
        """
        rows = 1 if x is None else self._checked_rows(x)
        denoiser, events = self.flow.denoiser, len(self.flow.event_shape)
        with pyro.plate("data", rows):
            scale = self.flow.base_scale().reshape(self.flow.event_shape)
            value = pyro.sample(f"z_{self.steps}", dist.Normal(torch.zeros_like(scale), scale).to_event(events))
            for number in range(self.steps, 0, -1):
                time, earlier = self._time(number), self._time(number - 1)
                mean, variance = reverse_step(denoiser, denoiser(value, time), value, time, earlier)
                value = pyro.sample(f"z_{number - 1}", dist.Normal(mean, variance.sqrt()).to_event(events))
            alpha, sigma = denoiser.scales(self._time(0))
            return pyro.sample("x", dist.Normal(value / alpha, sigma / alpha).to_event(events), obs=x)

    def guide(self, x: Tensor | None = None) -> None:
        """Draws the noisy values of data, the noisiest first.

        Args:
            x: Shape (rows, \\*event).

        Raises:
            ProgramError: When there are no data.
        """
        if x is None:
            raise missing_data(self, "x")
        denoiser, events = self.flow.denoiser, len(self.flow.event_shape)
        with pyro.plate("data", self._checked_rows(x)):
            alpha, sigma = denoiser.scales(self._time(self.steps))
            value = pyro.sample(f"z_{self.steps}", dist.Normal(alpha * x, sigma).to_event(events))
            for number in range(self.steps, 0, -1):
                mean, variance = posterior(denoiser, value, x, self._time(number), self._time(number - 1))
                value = pyro.sample(f"z_{number - 1}", dist.Normal(mean, variance.sqrt()).to_event(events))

    def _time(self, number: int) -> Tensor:
        return self.flow.base_loc.new_full((), number / self.steps)

    def _checked_rows(self, x: Tensor) -> int:
        check_dtype(self, "x", x, like=self.flow.base_loc)
        return check_rows(self, "x", x, self.flow.event_shape)
