r"""Priors of latent vectors that are learned with the model.

Convention of this module: a prior is a module that is called with the program's own approximate posterior, a function
from the encoder's features to a distribution, and returns the distribution of one latent vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import UnknownNameError
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms import Autoregressive, Coupling, InvertibleLinear, Spline

__all__ = ["PRIORS", "FlowPrior", "Prior", "VampPrior", "build_prior"]

Posterior = Callable[[Tensor], Any]

PRIORS = ("normal", "flow", "vamp")
"""Names of priors that programs take."""


class Prior(nn.Module, ABC):
    """The distribution of a latent vector, given the program's approximate posterior."""

    @abstractmethod
    def forward(self, posterior: Posterior) -> Any:
        """The distribution of one latent vector, with an empty batch shape.

        Args:
            posterior: Maps features of data, (..., *event_shape), to the approximate posterior of their latents.
        """


class FlowPrior(Prior):
    r"""A standard normal carried along by rational-quadratic couplings, with invertible linear maps between.

    It starts as a standard normal, turned.

    Args:
        latent_dim: Length of the latent vector.
        layers: How many pairs of couplings, one for each half.
        hidden: Widths of the hidden layers of each coupling's network.
        bins: Pieces of each spline.

    Raises:
        OptionError: When a size is no positive integer.

    References:
        Chen and others (2017), Variational Lossy Autoencoder, section 3.2; Durkan, Bekasov, Murray and Papamakarios
        (2019), Neural Spline Flows, section 5.2.

    Example:
        >>> prior = FlowPrior(3, layers=1, hidden=(8,))
        >>> prior(None).sample().shape
        torch.Size([3])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int, layers: int = 3, hidden: Sequence[int] = (64,), bins: int = 8) -> None:
        super().__init__()
        latent_dim = check_size("FlowPrior", "latent_dim", latent_dim)
        widths = check_sizes("FlowPrior", "hidden", hidden)
        parts: list[nn.Module] = []
        for _ in range(check_size("FlowPrior", "layers", layers)):
            if latent_dim == 1:
                parts.append(Autoregressive(1, widths, Spline(bins)))
            else:
                parts += [Coupling(latent_dim, widths, Spline(bins), swap=swap) for swap in (False, True)]
            parts.append(InvertibleLinear(latent_dim))
        self.transforms = nn.ModuleList(parts)
        self.register_buffer("loc", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("scale", torch.ones(latent_dim), persistent=False)

    def forward(self, posterior: Posterior | None) -> Flow:
        """The flow, whatever the posterior."""
        return Flow(dist.Normal(self.loc, self.scale).to_event(1), self.transforms)


class VampPrior(Prior):
    r"""The mixture of the approximate posteriors at learned pseudo-inputs.

    .. math:: p(z) = \frac1K \sum_{k=1}^K q(z \mid u_k)

    Pseudo-inputs live where the encoder reads data, and start as noise between 0 and 1.

    Args:
        event_shape: Shape of one datum.
        pseudo_inputs: :math:`K`, how many there are.

    Raises:
        OptionError: When a size is no positive integer.

    References:
        Tomczak and Welling (2018), VAE with a VampPrior, equation 11.

    Example:
        >>> prior = VampPrior((4,), pseudo_inputs=10)
        >>> prior(lambda u: dist.Normal(u[..., :2], 1.0).to_event(1)).sample().shape
        torch.Size([2])
    """

    logits: Tensor

    def __init__(self, event_shape: Sequence[int], pseudo_inputs: int = 100) -> None:
        super().__init__()
        count = check_size("VampPrior", "pseudo_inputs", pseudo_inputs)
        self.pseudo_inputs = nn.Parameter(torch.rand(count, *check_sizes("VampPrior", "event_shape", event_shape)))
        self.register_buffer("logits", torch.zeros(count), persistent=False)

    def forward(self, posterior: Posterior) -> Any:
        """The mixture, all weights alike."""
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), posterior(self.pseudo_inputs))


def build_prior(name: str, latent_dim: int, event_shape: Sequence[int]) -> Prior | None:
    """A learned prior by name; None for ``"normal"``, which has nothing to learn.

    Raises:
        UnknownNameError: When there is no prior of that name.

    Example:
        >>> type(build_prior("flow", 2, (64,))).__name__
        'FlowPrior'
    """
    if name not in PRIORS:
        raise UnknownNameError("prior", name, PRIORS)
    if name == "normal":
        return None
    return FlowPrior(latent_dim) if name == "flow" else VampPrior(event_shape)
