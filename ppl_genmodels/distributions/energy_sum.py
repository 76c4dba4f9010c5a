r"""Energies put together: weighted sums, whose densities are weighted products.

Convention of this module: a density stands for its energy :math:`-\log p(x)`, so that weights of one make a product of
experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_genmodels.distributions.energy import Energy
from ppl_genmodels.distributions.unvalidated import unvalidated
from ppl_genmodels.errors import OptionError

__all__ = ["EnergySum"]


class EnergySum(nn.Module):
    r"""The energy :math:`\sum_i w_i E_i(x)`, of the density proportional to :math:`\prod_i p_i(x)^{w_i}`.

    A weight above one sharpens what it weighs, and a negative one turns it away. The product of normalised densities is
    not normalised: see :func:`~ppl_genmodels.inference.annealed_importance`.

    Args:
        energies: Networks of one energy for each value, or distributions, such as an
            :class:`~ppl_genmodels.distributions.Energy`, whose tensors stay where they are when the module moves.
        weights: One for each; all of them one by default.

    Raises:
        OptionError: When there is none, or the numbers differ.

    References:
        Hinton (2002), Training Products of Experts by Minimizing Contrastive Divergence, equation 1; Du, Li and
        Mordatch (2020), Compositional Visual Generation with Energy Based Models, section 3.2.

    Example:
        >>> import pyro.distributions as dist
        >>> from ppl_genmodels.distributions import Energy
        >>> experts = [dist.Normal(torch.tensor([loc]), 1.0).to_event(1) for loc in (-1.0, 1.0)]
        >>> product = Energy(EnergySum(experts), (1,))
        >>> product.score(torch.tensor([[0.0], [1.0]])).flatten()
        tensor([ 0., -2.])
    """

    weights: Tensor

    def __init__(self, energies: Sequence[Any], weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        weights = [1.0] * len(energies) if weights is None else weights
        if not energies or len(weights) != len(energies):
            raise OptionError(
                f"EnergySum: {len(energies)} energies and {len(weights)} weights, expected one weight for each. "
                f"Remedy: weights={[1.0] * max(len(energies), 1)}."
            )
        self.energies = tuple(map(_energy, energies))
        networks = [getattr(each, "network", each) for each in energies]
        self.networks = nn.ModuleList(each for each in networks if isinstance(each, nn.Module))
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.get_default_dtype()))

    def forward(self, value: Tensor) -> Tensor:
        r"""Energies in nats, shape (\*batch), for values of shape (\*batch, \*event)."""
        found = [energy(value) for energy in self.energies]
        batch = min(energy.dim() for energy in found)
        together = torch.stack([energy.reshape(energy.shape[:batch]) for energy in found], -1)
        return (together * self.weights.to(together)).sum(-1)


def _energy(energy: Any) -> Callable[[Tensor], Tensor]:
    if isinstance(energy, Energy):
        return lambda value: -energy.log_density(value)
    if hasattr(energy, "log_prob"):
        density = unvalidated(energy)
        return lambda value: -density.log_prob(value)
    return energy
