r"""The variational autoencoder.

Convention of this module: sites ``z`` (latent) and ``x`` (observed), both in the plate ``data``;
the prior of ``z`` is standard normal unless it is learned, and the guide an independent normal whose
mean and scale a network reads off ``x``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_genmodels.distributions import Likelihood, build_likelihood
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_rows, missing_data
from ppl_genmodels.models.priors import Prior, build_prior
from ppl_genmodels.networks import MLP
from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["VAE", "Autoencoder", "likelihood_options", "normal_of"]

SMALLEST_SCALE = 1e-5
"""Added to the guide's scales, which would otherwise underflow to zero."""


class Autoencoder(nn.Module):
    r"""Variational autoencoder from any encoder, decoder and likelihood.

    .. math:: z \sim \mathcal{N}(0, I), \quad x \sim p(x \mid \mathrm{decoder}(z))
    .. math:: q(z \mid x) = \mathcal{N}(\mu, \mathrm{diag}(\sigma^2)), \quad
        (\mu, \sigma) = \mathrm{encoder}(x)

    Args:
        latent_dim: Length of ``z``.
        encoder: Maps data to ``2 * latent_dim`` numbers, means and then raw scales.
        decoder: Maps ``(..., latent_dim)`` to the likelihood's ``output_shape``.
        likelihood: Maps the decoder's output to the distribution of a datum.
        prior: A learned prior of ``z`` in place of the standard normal.

    Example:
        >>> likelihood = build_likelihood("gaussian", (6,))
        >>> program = Autoencoder(2, nn.Linear(6, 4), nn.Linear(2, 6), likelihood)
        >>> program.model().shape
        torch.Size([1, 6])
    """

    prior_loc: Tensor
    prior_scale: Tensor

    def __init__(
        self,
        latent_dim: int,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior
        self.register_buffer("prior_loc", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("prior_scale", torch.ones(latent_dim), persistent=False)

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws a latent vector and a datum for each row.

        Args:
            x: Data to condition on, ``(rows, *event_shape)``; one row from the prior by default.

        Returns:
            The data, observed or drawn.

        Raises:
            DataError: When the data have another shape or dtype, or values outside the likelihood's
                support.
        """
        rows = 1 if x is None else self._checked_rows(x)
        with pyro.plate("data", rows):
            z = pyro.sample("z", self.latents())
            return pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

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
            return pyro.sample("z", self._posterior(self.likelihood.features(x)))

    def latents(self) -> dist.TorchDistribution:
        """The prior of ``z``, with event shape ``(latent_dim,)``."""
        if self.prior is None:
            return dist.Normal(self.prior_loc, self.prior_scale).to_event(1)
        return self.prior(self._posterior)

    def _posterior(self, features: Tensor) -> dist.TorchDistribution:
        return normal_of(self.encoder(features))

    def _checked_rows(self, x: Tensor) -> int:
        rows = check_rows(self, "x", x, self.likelihood.event_shape)
        if not self.likelihood.support.is_discrete:
            check_dtype(self, "x", x, like=self.prior_loc)
        self.likelihood.check(type(self).__name__, "x", x)
        return rows


def normal_of(outputs: Tensor) -> dist.TorchDistribution:
    """Independent normals by what an encoder gives: means, and then as many raw scales, ``(..., 2 * latent_dim)``.

    Example:
        >>> normal_of(torch.zeros(5, 6)).event_shape
        torch.Size([3])
    """
    loc, raw_scale = outputs.chunk(2, dim=-1)
    return dist.Normal(loc, softplus(raw_scale) + SMALLEST_SCALE).to_event(1)


@register("vae")
class VAE(Autoencoder):
    r"""Variational autoencoder with multilayer perceptrons on flat rows.

    Args:
        data_dim: Length of a row.
        latent_dim: Length of the latent vector.
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse. Empty makes
            both affine, which with a Gaussian likelihood is probabilistic PCA.
        likelihood: ``"bernoulli"``, ``"gaussian"`` or ``"categorical"``.
        levels: Number of values of a categorical pixel.
        prior: ``"normal"``, or learned: ``"flow"`` (couplings) or ``"vamp"`` (posteriors at learned pseudo-inputs).

    Raises:
        OptionError: When a size is no positive integer.
        UnknownNameError: When there is no such likelihood or prior.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, section 3 and appendix C.

    Example:
        >>> program = VAE(data_dim=64, latent_dim=8, likelihood="gaussian")
        >>> x = torch.rand(5, 64)
        >>> program.guide(x).shape, program.model(x).shape
        (torch.Size([5, 8]), torch.Size([5, 64]))
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: Sequence[int] = (500,),
        likelihood: str = "bernoulli",
        levels: int = 256,
        prior: str = "normal",
    ) -> None:
        data_dim = check_size("VAE", "data_dim", data_dim)
        latent_dim = check_size("VAE", "latent_dim", latent_dim)
        hidden = check_sizes("VAE", "hidden", hidden)
        pixels = build_likelihood(likelihood, (data_dim,), levels)
        encoder = MLP(data_dim, 2 * latent_dim, hidden)
        decoder = MLP(latent_dim, pixels.output_shape[0], hidden[::-1])
        super().__init__(latent_dim, encoder, decoder, pixels, build_prior(prior, latent_dim, (data_dim,)))

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``data_dim`` and the likelihood that the array ``x`` allows.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is not of shape ``(rows, data_dim)``.
        """
        x = data_rows(data, "x", "VAE", ", or use ConvVAE for images")
        return {"data_dim": x.shape[1], **likelihood_options(x)}


def likelihood_options(x: np.ndarray) -> dict[str, Any]:
    """The options ``likelihood`` and ``levels`` that pixel values allow; NaN, a missing value, is
    left out.

    Binary pixels are Bernoulli and all others Gaussian. ``levels`` is given with integer pixels,
    for a user who chooses the categorical.

    Example:
        >>> likelihood_options(np.array([[0.0, 1.0]]))
        {'likelihood': 'bernoulli'}
        >>> likelihood_options(np.array([[0, 16]]))
        {'likelihood': 'gaussian', 'levels': 17}
    """
    present = x[~np.isnan(x)]
    if np.isin(present, (0, 1)).all():
        return {"likelihood": "bernoulli"}
    if (present >= 0).all() and (present % 1 == 0).all():
        return {"likelihood": "gaussian", "levels": int(present.max()) + 1}
    return {"likelihood": "gaussian"}
