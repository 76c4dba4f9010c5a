"""The variational autoencoder on images.

Convention of this module: an image is ``(channels, height, width)``; sites and plates as in
:mod:`ppl_genmodels.models.vae`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppl_genmodels.distributions import build_likelihood
from ppl_genmodels.errors import DataError
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import data_array
from ppl_genmodels.models.priors import build_prior
from ppl_genmodels.models.vae import Autoencoder, likelihood_options
from ppl_genmodels.networks import ConvDecoder, ConvEncoder
from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["ConvVAE"]


@register("conv_vae")
class ConvVAE(Autoencoder):
    r"""Variational autoencoder with convolutional networks on images.

    Args:
        image_shape: ``(channels, height, width)``.
        latent_dim: Length of the latent vector.
        channels: Output channels of the encoder's convolutions, each of which halves the image; the
            decoder has them in reverse. Empty makes both affine.
        likelihood: ``"bernoulli"``, ``"gaussian"`` or ``"categorical"``.
        levels: Number of values of a categorical pixel.
        prior: ``"normal"``, or learned: ``"flow"`` or ``"vamp"``.

    Raises:
        OptionError: When a size is no positive integer.
        UnknownNameError: When there is no such likelihood or prior.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, with the networks exchanged.

    Example:
        >>> import torch
        >>> program = ConvVAE(image_shape=(1, 8, 8), latent_dim=8, likelihood="gaussian")
        >>> x = torch.rand(5, 1, 8, 8)
        >>> program.guide(x).shape, program.model().shape
        (torch.Size([5, 8]), torch.Size([1, 1, 8, 8]))
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        channels: Sequence[int] = (32, 64),
        likelihood: str = "bernoulli",
        levels: int = 256,
        prior: str = "normal",
    ) -> None:
        image_shape = check_sizes("ConvVAE", "image_shape", image_shape, length=3)
        latent_dim = check_size("ConvVAE", "latent_dim", latent_dim)
        channels = check_sizes("ConvVAE", "channels", channels)
        pixels = build_likelihood(likelihood, image_shape, levels)
        encoder = ConvEncoder(image_shape, 2 * latent_dim, channels)
        decoder = ConvDecoder(latent_dim, pixels.output_shape, channels[::-1])
        super().__init__(latent_dim, encoder, decoder, pixels, build_prior(prior, latent_dim, image_shape))

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``image_shape`` and the likelihood that the array ``x`` allows.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, channels, height, width)``.
        """
        x = data_array(data, "x", "ConvVAE")
        if x.ndim != 4:
            raise DataError(
                f"ConvVAE: array 'x' has shape {x.shape}, expected "
                f"(rows, channels, height, width). Remedy: x[:, None] for images without channels, "
                f"x.reshape(-1, channels, height, width) for flat rows."
            )
        return {"image_shape": x.shape[1:], **likelihood_options(x)}
