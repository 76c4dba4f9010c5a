r"""A critic that is Lipschitz and has a Lipschitz gradient, with constants that are known.

Convention of this module: features are the last dim; the critic's Lipschitz constant is :math:`\alpha`, that of its
gradient :math:`\beta`, both in the Euclidean norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.mlp import MLP

__all__ = ["SmoothCritic"]

Smooth = Literal["softplus", "elu", "tanh"]

ACTIVATIONS: Mapping[str, tuple[Callable[[], nn.Module], float]] = {
    "softplus": (nn.Softplus, 0.25),
    "elu": (nn.ELU, 1.0),
    "tanh": (nn.Tanh, 4 / (3 * math.sqrt(3))),
}
"""Makes an activation, whose slope is at most one, and how fast that slope changes at most."""


class SmoothCritic(nn.Module):
    r"""A perceptron with spectrally normalized layers and smooth activations: two of the conditions of a stable game.

    - (D1), that the critic is Lipschitz: every layer's operator norm is one and every activation's slope at most one,
      so that the critic's is at most :math:`\alpha`;
    - (D2), that its gradient is Lipschitz: with :math:`n` activations of a slope that changes by at most :math:`s`, by
      at most :math:`\beta = \alpha n s`.

    The third, (D3), is :class:`~ppl_genmodels.objectives.KernelPenalty`'s. Norms are one as far as the power iteration
    has found them: one step of it is taken at each call in training.

    Args:
        features: Of a datum.
        hidden: Widths of the hidden layers.
        lipschitz: :math:`\alpha`.
        activation: ``"softplus"``, ``"elu"`` or ``"tanh"``.

    Raises:
        OptionError: When a size or the constant is not positive, or the activation is none of the three.

    References:
        Chu, Minami and Fukumizu (2020), Smoothness and Stability in GANs, conditions (D1) and (D2); Miyato, Kataoka,
        Koyama and Yoshida (2018), Spectral Normalization for Generative Adversarial Networks, section 2.1.

    Example:
        >>> import torch
        >>> critic = SmoothCritic(2, hidden=(32, 32), lipschitz=3.0)
        >>> critic(torch.zeros(5, 2)).shape, critic.smoothness
        (torch.Size([5]), 1.5)
    """

    def __init__(
        self,
        features: int,
        hidden: Iterable[int] = (64, 64),
        lipschitz: float = 1.0,
        activation: Smooth = "softplus",
    ) -> None:
        super().__init__()
        if not lipschitz > 0:
            raise OptionError(f"SmoothCritic: lipschitz={lipschitz}, expected a positive number. Remedy: 1.0.")
        if activation not in ACTIVATIONS:
            raise OptionError(
                f"SmoothCritic: activation={activation!r}, expected one of {', '.join(map(repr, get_args(Smooth)))}; "
                f"a kink, such as ReLU's, has no Lipschitz slope."
            )
        make, bend = ACTIVATIONS[activation]
        self.network = MLP(features, 1, hidden, make)
        linear = [layer for layer in self.network.layers if isinstance(layer, nn.Linear)]
        for layer in linear:
            spectral_norm(layer)
        self.lipschitz = float(lipschitz)
        """The bound of its slope."""
        self.smoothness = self.lipschitz * bend * (len(linear) - 1)
        """The bound of how fast its slope changes."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores of ``(..., features)``, shape ``(...)``."""
        return self.lipschitz * self.network(x).squeeze(-1)
