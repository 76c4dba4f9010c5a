r"""Adversarially learned inference: encoder and decoder in a game on pairs of data and codes.

Convention of this module: sites ``z`` (latent) and ``x`` (observed), both in the plate ``data``, as
:class:`~ppl_genmodels.models.Autoencoder` has them; the critic scores pairs of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_genmodels.distributions import GaussianLikelihood
from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.adversarial_autoencoder import encoder_of, mean_data
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import data_array
from ppl_genmodels.models.gan import generator_of, is_bounded
from ppl_genmodels.models.vae import Autoencoder
from ppl_genmodels.networks import Critic
from ppl_genmodels.networks.sizes import check_event_shape, check_size
from ppl_genmodels.objectives import Objective

__all__ = ["BiGAN"]


@register("bigan")
class BiGAN(Autoencoder, Adversary):
    r"""Generator and inference network learned by one game on data and codes.

    .. math:: \min \; D[\,p_{\mathrm{data}}(x) \, q(z \mid x) \,\|\, p(z) \, p(x \mid z)\,]

    Where the critic cannot tell the pairs apart, :math:`q(z \mid x)` is the posterior. The likelihood is Gaussian with
    a learned scale, and its noise is drawn in the game, so that there is a density too. Data without noise, such as
    images, want a scale that starts small: the critic sees noise before it sees anything else.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        latent_dim: Length of ``z``.
        hidden: Widths of the hidden layers of the critic, and, for vectors, of the encoder and in reverse the decoder.
        channels: Of the convolutions of critic and encoder, for images; the decoder has them in reverse.
        bounded: Whether the means of data lie between 0 and 1, such as grey levels: the decoder then ends in a sigmoid.
        scale: Where the likelihood's standard deviation starts, in the data's unit.
        divergence: As :class:`~ppl_genmodels.models.GAN` has it, and so are the others.
        gradient_penalty: As there.
        critic_steps: As there.
        critic_rate: As there.

    Raises:
        OptionError: When a size is no positive integer, the scale not positive, or the shape neither of vectors nor of
            images.
        UnknownNameError: When there is no such divergence.

    References:
        Dumoulin and others (2017), Adversarially Learned Inference, section 2; Donahue, Krähenbühl and Darrell (2017),
        Adversarial Feature Learning, section 3.

    Example:
        >>> program = BiGAN(event_shape=(6,), latent_dim=2)
        >>> print(program.default_objective())
        - D[data(x,z) || model(x,z)]
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        hidden: Sequence[int] = (128, 128),
        channels: Sequence[int] = (32, 64),
        bounded: bool = False,
        scale: float = 0.1,
        divergence: str = "nonsaturating",
        gradient_penalty: float | None = None,
        critic_steps: int | None = None,
        critic_rate: float = 4e-4,
    ) -> None:
        shape, size = check_event_shape("BiGAN", event_shape), check_size("BiGAN", "latent_dim", latent_dim)
        encoder = encoder_of("BiGAN", shape, 2 * size, hidden, channels)
        decoder = generator_of("BiGAN", size, shape, hidden, channels, bounded)
        if not scale > 0:
            raise OptionError(f"BiGAN: scale={scale}, expected a positive number. Remedy: scale=0.1.")
        likelihood = GaussianLikelihood(shape)
        torch.nn.init.constant_(likelihood.log_scale, math.log(scale))
        super().__init__(size, encoder, decoder, likelihood)
        critic = Critic(shape, hidden, channels, beside=size)
        self.keep_critic(critic, divergence, gradient_penalty, critic_steps, critic_rate)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape`` and ``bounded``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty.
        """
        x = data_array(data, "x", "BiGAN")
        return {"event_shape": x.shape[1:], "bounded": is_bounded(x)}

    def default_objective(self) -> Objective:
        """Minus the divergence of generated pairs from pairs of data and their codes."""
        return -self.game("x", "z")

    @torch.no_grad()
    def generate(self, rows: int) -> Tensor:
        """The means of data whose codes are drawn from the prior.

        Args:
            rows: How many.

        Returns:
            Data, ``(rows, *event_shape)``.
        """
        return mean_data(self, rows)
