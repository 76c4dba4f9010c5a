r"""The energy of data with noise, as a denoiser knows it that was made from an energy.

Convention of this module: time runs from 0, data with least noise, to 1, noise; densities are up to a factor, another
one at each time.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import Denoiser, EnergyGradient

__all__ = ["NoisyEnergy"]


class NoisyEnergy(nn.Module):
    r"""The energy whose gradient is minus a denoiser's score at one time; a network for :class:`Energy`.

    At time 0 it is the energy of the data, but for the least noise. Fit it by ``score_matching("x")``, at all levels of
    noise together, and draw by :func:`annealed_langevin`.

    Args:
        denoiser: One that predicts the noise by an :class:`~ppl_genmodels.networks.EnergyGradient`.
        time: Between 0 and 1.

    Raises:
        OptionError: When the denoiser is another one.

    References:
        Song and Ermon (2019), Generative Modeling by Estimating Gradients of the Data Distribution, section 4.1, for
        one network at all levels.

    Example:
        >>> import torch
        >>> from ppl_genmodels.distributions import Energy
        >>> from ppl_genmodels.networks import TimeMLP, VarianceExploding
        >>> denoiser = Denoiser(EnergyGradient(TimeMLP(2, width=16)), VarianceExploding(0.1, 5.0))
        >>> energy, x = Energy(NoisyEnergy(denoiser, time=0.5), (2,)), torch.randn(5, 2)
        >>> torch.allclose(energy.score(x), denoiser(x, torch.tensor(0.5)).score, atol=1e-5)
        True
    """

    def __init__(self, denoiser: Denoiser, time: float = 0.0) -> None:
        super().__init__()
        if denoiser.predicts != "noise" or not isinstance(denoiser.network, EnergyGradient):
            raise OptionError(
                f"NoisyEnergy: the denoiser predicts {denoiser.predicts} by {type(denoiser.network).__name__}, whose "
                f"score is not known to be a gradient. Remedy: Denoiser(EnergyGradient(network), noising)."
            )
        self.denoiser, self.time = denoiser, time

    def forward(self, value: Tensor) -> Tensor:
        r"""Energies in nats, shape (\*batch), for values of shape (\*batch, \*event)."""
        denoiser, batch = self.denoiser, value.shape[: value.dim() - self.denoiser.event_dim]
        network: Any = denoiser.network
        time = value.new_full((), self.time)
        alpha, sigma = denoiser.noising.alpha(time), denoiser.noising.sigma(time)
        spread = (alpha**2 * denoiser.data_scale**2 + sigma**2).sqrt()
        return spread / sigma * network.energy(value / spread, time.expand(batch))
