r"""A network's energy and its gradient, for denoisers whose score is the gradient of a density.

Convention of this module: values have the shape (\*batch, \*event), times (\*batch), energies (\*batch).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["EnergyGradient"]


class EnergyGradient(nn.Module):
    r"""The gradient in the value of :math:`\tfrac12 \|x - f(x, t)\|^2`.

    Put into a :class:`Denoiser` that predicts the noise, it makes the score at each time the gradient of a log-density
    that is known up to a constant (:class:`~ppl_genmodels.distributions.NoisyEnergy`), which the output of a plain
    network is not.

    Args:
        network: :math:`f`, called with values, their times and the context if there is one, with outputs of the values'
            shape and smooth activations: any network of a denoiser.
        event_dim: How many dims one value has.

    References:
        Salimans and Ho (2021), Should EBMs Model the Energy or the Score?

    Example:
        >>> from ppl_genmodels.networks import Denoiser, TimeMLP, VarianceExploding
        >>> network = EnergyGradient(TimeMLP(2, width=16))
        >>> network.energy(torch.ones(5, 2), torch.rand(5)).shape, network(torch.ones(5, 2), torch.rand(5)).shape
        (torch.Size([5]), torch.Size([5, 2]))
        >>> Denoiser(network, VarianceExploding())(torch.ones(5, 2), torch.rand(5)).score.shape
        torch.Size([5, 2])
    """

    def __init__(self, network: nn.Module, event_dim: int = 1) -> None:
        super().__init__()
        self.network, self.event_dim = network, event_dim

    def energy(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        r"""The energy, shape (\*batch)."""
        output = self.network(x, time) if context is None else self.network(x, time, context)
        return 0.5 * (x - output).square().flatten(-self.event_dim).sum(-1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        """Its gradient in the value, of the shape of ``x``."""
        energy, pull = torch.func.vjp(partial(self.energy, time=time, context=context), x)  # type: ignore[misc]
        return pull(torch.ones_like(energy))[0]
