r"""VAE-GAN: a variational autoencoder that a critic teaches which differences between data matter.

Convention of this module: sites ``z`` (latent) and ``x`` (deterministic, the decoder's output), both in the plate
``data``; the critic scores ``x``. There is no density of data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import batch_norm

from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.adversarial_autoencoder import encoder_of
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_array, missing_data
from ppl_genmodels.models.gan import generator_of, is_bounded
from ppl_genmodels.models.vae import normal_of
from ppl_genmodels.networks import Critic
from ppl_genmodels.networks.sizes import check_event_shape, check_size
from ppl_genmodels.objectives import Objective, feature_log_lik, kl

__all__ = ["VAEGAN"]


@register("vae_gan")
class VAEGAN(Adversary):
    r"""Variational autoencoder with a critic's features in the place of pixels.

    .. math:: z \sim \mathcal N(0, I), \quad x = \mathrm{decoder}(z)
    .. math:: \max \; E_{q(z \mid x)} \log \mathcal N(f(x); f(\mathrm{decoder}(z)), I) - KL[q(z \mid x) \,\|\, p(z)]
        - w \, D[p_{\mathrm{data}}(x) \,\|\, p(x)]

    The features :math:`f` are those of the critic's last hidden layer, of mean zero and variance one in each batch of
    data and reconstructions together. Reconstructions are right, then, in what the critic looks at.

    As in the paper the encoder has the first two terms, the decoder the first and the last, and the critic learns by
    the game alone. Beside the paper's, the game here has draws from the prior and no reconstructions, and the critic
    normalizes no layer but the one that is compared. As the features move with the critic, the first term is no
    likelihood of data, and the sum no bound on an evidence.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        latent_dim: Length of ``z``.
        hidden: Widths of the hidden layers of the critic, and, for vectors, of the encoder and in reverse the decoder.
        channels: Of the convolutions of critic and encoder, for images; the decoder has them in reverse.
        bounded: Whether values lie between 0 and 1, such as grey levels: the decoder then ends in a sigmoid.
        weight: Of the divergence, :math:`w`; the paper's :math:`\gamma` is one over it.
        divergence: As :class:`~ppl_genmodels.models.GAN` has it, and so are the others.
        gradient_penalty: As there.
        critic_steps: As there.
        critic_rate: As there.

    Raises:
        OptionError: When a size is no positive integer, the weight negative, or the shape neither of vectors nor of
            images.
        UnknownNameError: When there is no such divergence.

    References:
        Larsen, Sønderby, Larochelle and Winther (2016), Autoencoding beyond pixels using a learned similarity metric,
        section 2 and algorithm 1.

    Example:
        >>> program = VAEGAN(event_shape=(6,), latent_dim=2)
        >>> print(program.default_objective())
        E_q[log p(f(x)|z)] - KL[q(z|x) || p(z)] - 10 * D[data(x) || model(x)]
    """

    critic: Critic
    prior_loc: Tensor
    prior_scale: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        hidden: Sequence[int] = (128, 128),
        channels: Sequence[int] = (32, 64),
        bounded: bool = False,
        weight: float = 10.0,
        divergence: str = "nonsaturating",
        gradient_penalty: float | None = None,
        critic_steps: int | None = None,
        critic_rate: float = 4e-4,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise OptionError(f"VAEGAN: weight={weight}, expected 0 or more. Remedy: weight=10.0.")
        self.event_shape, self.weight = check_event_shape("VAEGAN", event_shape), weight
        size = check_size("VAEGAN", "latent_dim", latent_dim)
        self.encoder = encoder_of("VAEGAN", self.event_shape, 2 * size, hidden, channels)
        self.decoder = generator_of("VAEGAN", size, self.event_shape, hidden, channels, bounded)
        critic = Critic(self.event_shape, hidden, channels)
        self.keep_critic(critic, divergence, gradient_penalty, critic_steps, critic_rate)
        self.register_buffer("prior_loc", torch.zeros(size), persistent=False)
        self.register_buffer("prior_scale", torch.ones(size), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape`` and ``bounded``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty.
        """
        x = data_array(data, "x", "VAEGAN")
        return {"event_shape": x.shape[1:], "bounded": is_bounded(x)}

    def default_objective(self) -> Objective:
        """The features' log-likelihood, less the codes' divergence from the prior and the weighted one of draws."""
        return feature_log_lik("x", self.features) - kl() - self.weight * self.game("x")

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws a latent vector for each row and decodes it; the data tell only how many.

        Args:
            x: Data, ``(rows, *event_shape)``; one row is drawn by default.

        Returns:
            What was decoded.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        with pyro.plate("data", 1 if x is None else self._checked_rows(x)):
            z = pyro.sample("z", dist.Normal(self.prior_loc, self.prior_scale).to_event(1))
            return pyro.deterministic("x", self.decoder(z), event_dim=len(self.event_shape))

    def guide(self, x: Tensor | None = None) -> Tensor:
        """Draws a latent vector for each row from the approximate posterior.

        Args:
            x: The data, ``(rows, *event_shape)``.

        Returns:
            Latent vectors, ``(..., rows, latent_dim)``.

        Raises:
            ProgramError: When there are no data.
            DataError: As :meth:`model`.
        """
        if x is None:
            raise missing_data(self, "x")
        with pyro.plate("data", self._checked_rows(x)):
            return pyro.sample("z", normal_of(self.encoder(x)))

    def features(self, x: Tensor) -> Tensor:
        """What the critic's last hidden layer makes of data, with mean zero and variance one in the batch.

        Args:
            x: Two data or more, ``(rows, *event_shape)``.

        Returns:
            Shape (rows, features).
        """
        return batch_norm(self.critic.features(x), None, None, training=True)

    @torch.no_grad()
    def generate(self, rows: int) -> Tensor:
        """Decodes codes that are drawn from the prior.

        Args:
            rows: How many.

        Returns:
            Data, ``(rows, *event_shape)``.
        """
        count = check_size("VAEGAN", "rows", rows)
        made: Tensor = self.decoder(torch.randn_like(self.prior_loc.expand(count, -1)))
        return made

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Decodes the means of the codes of data.

        Args:
            x: Data, ``(rows, *event_shape)``.

        Returns:
            Data, ``(rows, *event_shape)``.

        Raises:
            DataError: As :meth:`model`.
        """
        self._checked_rows(x)
        made: Tensor = self.decoder(self.encoder(x).chunk(2, -1)[0])
        return made

    def _checked_rows(self, x: Tensor) -> int:
        check_dtype(self, "x", x, like=self.prior_loc)
        return check_rows(self, "x", x, self.event_shape)
