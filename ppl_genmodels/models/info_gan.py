r"""InfoGAN: a generative adversarial network some of whose latents are codes that can be read off what it makes.

Convention of this module: latent sites ``c``, a category, ``u``, continuous codes between -1 and 1 where there are any,
and ``z``, standard normal noise; a deterministic site ``x``, the generator's output; all in the plate ``data``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.adversarial_autoencoder import encoder_of
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_index, check_rows, data_array
from ppl_genmodels.models.gan import generator_of, is_bounded
from ppl_genmodels.models.vae import normal_of
from ppl_genmodels.networks import Critic
from ppl_genmodels.networks.sizes import check_event_shape, check_size
from ppl_genmodels.objectives import Objective, mutual_information

__all__ = ["InfoGAN"]


@register("info_gan")
class InfoGAN(Adversary):
    r"""Generative adversarial network of which codes, a category above all, can be read off.

    .. math:: c \sim \mathrm{Uniform}\{1, \dots, K\}, \; u \sim \mathrm{Uniform}(-1, 1), \; z \sim \mathcal N(0, I),
        \quad x = G(c, u, z)
    .. math:: \max \; - D[p_{\mathrm{data}}(x) \,\|\, p(x)] + w \, \{ E_{p(c, u, x)}[\log q(c, u \mid x)] + H(c, u) \}

    The second term bounds the information that data hold of their codes, so that the generator must use these; of data
    in clusters the category comes to name them, without a label. The recognition :math:`q` is a network of its own,
    where the paper's shares the critic's layers; it is a categorical of ``c`` and an independent normal of ``u``.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        categories: How many values ``c`` has.
        continuous: How many continuous codes ``u`` holds; None for no such site.
        latent_dim: Length of ``z``.
        hidden: Widths of the hidden layers of the critic and, for vectors, of the recognition and in reverse the
            generator.
        channels: Of the convolutions of critic and recognition, for images; the generator has them in reverse.
        bounded: Whether values lie between 0 and 1, such as grey levels: the generator then ends in a sigmoid.
        weight: Of the mutual information, :math:`w`.
        divergence: As :class:`~ppl_genmodels.models.GAN` has it, and so are the others.
        gradient_penalty: As there.
        critic_steps: As there.
        critic_rate: As there.

    Raises:
        OptionError: When a size is no positive integer, the weight negative, or the shape neither of vectors nor of
            images.
        UnknownNameError: When there is no such divergence.

    References:
        Chen, Duan, Houthooft, Schulman, Sutskever and Abbeel (2016), InfoGAN: Interpretable Representation Learning by
        Information Maximizing Generative Adversarial Nets, sections 4 to 6.

    Example:
        >>> program = InfoGAN(event_shape=(2,), categories=4, continuous=1)
        >>> print(program.default_objective())
        I(c,u; x) - D[data(x) || model(x)]
        >>> program.recognized(program.generate(5))["c"].probs.shape
        torch.Size([5, 4])
    """

    prior_loc: Tensor
    prior_scale: Tensor
    one_hot: Tensor
    edge: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        categories: int = 10,
        continuous: int | None = None,
        latent_dim: int = 16,
        hidden: Sequence[int] = (128, 128),
        channels: Sequence[int] = (32, 64),
        bounded: bool = False,
        weight: float = 1.0,
        divergence: str = "nonsaturating",
        gradient_penalty: float | None = None,
        critic_steps: int | None = None,
        critic_rate: float = 4e-4,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise OptionError(f"InfoGAN: weight={weight}, expected 0 or more. Remedy: weight=1.0.")
        self.event_shape, self.weight = check_event_shape("InfoGAN", event_shape), weight
        self.categories = check_size("InfoGAN", "categories", categories)
        size = check_size("InfoGAN", "latent_dim", latent_dim)
        more = 0 if continuous is None else check_size("InfoGAN", "continuous", continuous)
        self.codes = ("c", "u") if more else ("c",)
        inputs = size + self.categories + more
        self.generator = generator_of("InfoGAN", inputs, self.event_shape, hidden, channels, bounded)
        self.encoder = encoder_of("InfoGAN", self.event_shape, self.categories + 2 * more, hidden, channels)
        critic = Critic(self.event_shape, hidden, channels)
        self.keep_critic(critic, divergence, gradient_penalty, critic_steps, critic_rate)
        self.register_buffer("prior_loc", torch.zeros(size), persistent=False)
        self.register_buffer("prior_scale", torch.ones(size), persistent=False)
        self.register_buffer("one_hot", torch.eye(self.categories), persistent=False)
        self.register_buffer("edge", torch.ones(more), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape`` and ``bounded``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty.
        """
        x = data_array(data, "x", "InfoGAN")
        return {"event_shape": x.shape[1:], "bounded": is_bounded(x)}

    def default_objective(self) -> Objective:
        """The weighted information of the codes, less the divergence of what is generated from the data."""
        return self.weight * mutual_information(self.codes, "x", self.recognition) - self.game("x")

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws codes and a datum for each row; the data tell only how many.

        Args:
            x: Data, ``(rows, *event_shape)``; one row is drawn by default.

        Returns:
            What was generated.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        with pyro.plate("data", 1 if x is None else self._checked_rows(x)):
            codes = {name: pyro.sample(name, prior) for name, prior in self._priors().items()}
            return pyro.deterministic("x", self._made(codes), event_dim=len(self.event_shape))

    def recognition(self, x: Tensor) -> None:
        """Draws the codes ``c`` and ``u`` of each row, given what was made of them.

        Args:
            x: Data, ``(rows, *event_shape)``.

        Raises:
            DataError: When they have another shape or dtype.
        """
        with pyro.plate("data", self._checked_rows(x)):
            for name, posterior in self.recognized(x).items():
                pyro.sample(name, posterior)

    def recognized(self, x: Tensor) -> dict[str, dist.TorchDistribution]:
        """The distributions of the codes of each row, by name of the site.

        Args:
            x: Data, ``(rows, *event_shape)``.

        Returns:
            A categorical for ``c``, and for ``u`` a normal.
        """
        features = self.encoder(x)
        found: dict[str, dist.TorchDistribution] = {"c": dist.Categorical(logits=features[..., : self.categories])}
        if "u" in self.codes:
            found["u"] = normal_of(features[..., self.categories :])
        return found

    @torch.no_grad()
    def generate(self, rows: int | Tensor) -> Tensor:
        """Draws data.

        Args:
            rows: How many, or the category of each, ``(rows,)``.

        Returns:
            Data, ``(rows, *event_shape)``.

        Raises:
            OptionError: When their number is no positive integer.
            DataError: When there is no such category.
        """
        if isinstance(rows, Tensor):
            check_index(self, "rows", rows, self.categories, "categories")
            count = check_rows(self, "rows", rows, ())
        else:
            count = check_size("InfoGAN", "rows", rows)
        codes = {name: prior.expand([count]).sample() for name, prior in self._priors().items()}
        return self._made({**codes, "c": rows} if isinstance(rows, Tensor) else codes)

    def _priors(self) -> dict[str, dist.TorchDistribution]:
        even = dist.Categorical(logits=self.one_hot.new_zeros(self.categories))
        priors: dict[str, dist.TorchDistribution] = {"c": even}
        if "u" in self.codes:
            priors["u"] = dist.Uniform(-self.edge, self.edge).to_event(1)
        return {**priors, "z": dist.Normal(self.prior_loc, self.prior_scale).to_event(1)}

    def _made(self, codes: Mapping[str, Tensor]) -> Tensor:
        parts = [self.one_hot[value] if name == "c" else value for name, value in codes.items()]
        made: Tensor = self.generator(torch.cat(parts, -1))
        return made

    def _checked_rows(self, x: Tensor) -> int:
        check_dtype(self, "x", x, like=self.prior_loc)
        return check_rows(self, "x", x, self.event_shape)
