r"""The adversarial autoencoder: an autoencoder whose codes, of all data together, a critic cannot tell from the prior.

Convention of this module: sites ``z`` (latent) and ``x`` (observed), both in the plate ``data``, as
:class:`~ppl_genmodels.models.Autoencoder` has them; the critic scores ``z``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions import Likelihood, build_likelihood
from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import data_array
from ppl_genmodels.models.gan import generator_of
from ppl_genmodels.models.vae import Autoencoder, likelihood_options
from ppl_genmodels.networks import MLP, ConvEncoder, Critic
from ppl_genmodels.networks.sizes import check_event_shape, check_size, check_sizes
from ppl_genmodels.objectives import Objective, log_lik

__all__ = ["AdversarialAutoencoder", "encoder_of"]


@register("adversarial_autoencoder")
class AdversarialAutoencoder(Autoencoder, Adversary):
    r"""Adversarial autoencoder of vectors or images.

    .. math:: \max \; \mathbb E_{q(z \mid x)} \log p(x \mid z) - w \, D[q(z) \,\|\, p(z)], \quad
        q(z) = \mathbb E_x \, q(z \mid x)

    Beside the bound's divergence from the prior, which each datum's posterior has, only that of all of them together is
    lessened, so that codes fill the prior and yet tell data apart. It is no bound on the evidence.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        latent_dim: Length of ``z``.
        hidden: Widths of the hidden layers of the critic, and, for vectors, of the encoder and in reverse the decoder.
        channels: Of the encoder's convolutions, for images; the decoder has them in reverse.
        likelihood: As :class:`~ppl_genmodels.models.VAE` has it.
        levels: As there.
        weight: Of the divergence, :math:`w`. The log-likelihood is a sum over all values of a datum: images need
            a greater weight than vectors do; the greater it is, the less codes tell of the data.
        divergence: As :class:`~ppl_genmodels.models.GAN` has it, and so are the others.
        gradient_penalty: As there.
        critic_steps: As there.
        critic_rate: As there.

    Raises:
        OptionError: When a size is no positive integer, the weight negative, or the shape neither of vectors nor of
            images.
        UnknownNameError: When there is no such likelihood or divergence.

    References:
        Makhzani, Shlens, Jaitly, Goodfellow and Frey (2015), Adversarial Autoencoders, section 2.

    Example:
        >>> program = AdversarialAutoencoder(event_shape=(6,), latent_dim=2, likelihood="gaussian")
        >>> print(program.default_objective())
        E_q[log p(x|z)] - D[data(z) || model(z)]
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        hidden: Sequence[int] = (128, 128),
        channels: Sequence[int] = (32, 64),
        likelihood: str = "bernoulli",
        levels: int = 256,
        weight: float = 1.0,
        divergence: str = "nonsaturating",
        gradient_penalty: float | None = None,
        critic_steps: int | None = None,
        critic_rate: float = 1e-3,
    ) -> None:
        owner = "AdversarialAutoencoder"
        if not weight >= 0:
            raise OptionError(f"{owner}: weight={weight}, expected 0 or more. Remedy: weight=1.0.")
        shape, size = check_event_shape(owner, event_shape), check_size(owner, "latent_dim", latent_dim)
        pixels = build_likelihood(likelihood, shape, levels)
        encoder = encoder_of(owner, shape, 2 * size, hidden, channels)
        super().__init__(size, encoder, generator_of(owner, size, pixels.output_shape, hidden, channels), pixels)
        self.weight = weight
        self.keep_critic(Critic((size,), hidden), divergence, gradient_penalty, critic_steps, critic_rate)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape`` and the likelihood that the array ``x`` allows.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty.
        """
        x = data_array(data, "x", "AdversarialAutoencoder")
        return {"event_shape": x.shape[1:], **likelihood_options(x)}

    def default_objective(self) -> Objective:
        """The reconstructions' log-likelihood less the weighted divergence of all codes from the prior."""
        return log_lik() - self.weight * self.game("z")

    @torch.no_grad()
    def generate(self, rows: int) -> Tensor:
        """The means of data whose codes are drawn from the prior.

        Args:
            rows: How many.

        Returns:
            Data, ``(rows, *event_shape)``.
        """
        return mean_data(self, rows)


def mean_data(program: Autoencoder, rows: int) -> Tensor:
    """The means of data given codes from the prior, ``(rows, *event_shape)``."""
    count = check_size(type(program).__name__, "rows", rows)
    likelihood: Likelihood = program.likelihood
    found: Tensor = likelihood(program.decoder(program.latents().expand([count]).sample())).mean
    return found


def encoder_of(
    owner: str, event_shape: Sequence[int], outputs: int, hidden: Sequence[int], channels: Sequence[int]
) -> nn.Module:
    """A network from data to vectors: a perceptron, or convolutions for images.

    Raises:
        OptionError: When a size is no positive integer, or the shape is neither of vectors nor of images.

    Example:
        >>> encoder_of("GAN", (1, 8, 8), 3, (16,), (4, 8))(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 3])
    """
    widths, depths = check_sizes(owner, "hidden", hidden), check_sizes(owner, "channels", channels)
    return MLP(event_shape[0], outputs, widths) if len(event_shape) == 1 else ConvEncoder(event_shape, outputs, depths)
