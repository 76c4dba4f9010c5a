r"""Generative adversarial networks: a generator, and nothing else that is fitted but a critic.

Convention of this module: a latent site ``z``, standard normal, and a deterministic site ``x``, the generator's output,
both in the plate ``data``; with classes a site ``y`` before them, the label. There is no density and no guide: data
enter by the critic alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_index, check_rows, data_array
from ppl_genmodels.networks import MLP, ConvDecoder, Critic
from ppl_genmodels.networks.sizes import check_event_shape, check_size, check_sizes
from ppl_genmodels.objectives import Objective

__all__ = ["GAN", "generator_of", "is_bounded"]


@register("gan")
class GAN(Adversary):
    r"""Generative adversarial network of vectors or images, given a label or not.

    .. math:: z \sim \mathcal N(0, I), \quad x = G(z, y)

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        latent_dim: Length of ``z``.
        hidden: Widths of the critic's hidden layers; for vectors the generator has them in reverse.
        channels: Of the critic's convolutions, for images; the generator has them in reverse.
        classes: How many labels there are, when data come with labels; None for data alone.
        bounded: Whether values lie between 0 and 1, such as grey levels: the generator then ends in a sigmoid.
        divergence: ``"nonsaturating"``, ``"minimax"``, ``"least_squares"``, ``"hinge"`` or ``"wasserstein"``.
        gradient_penalty: As :meth:`~ppl_genmodels.models.Adversary.keep_critic` has it, and so are the next two.
        critic_steps: As there.
        critic_rate: As there.
        spectral: Whether the critic's matrices have operator norm one.

    Raises:
        OptionError: When a size is no positive integer, or the shape is neither of vectors nor of images.
        UnknownNameError: When there is no such divergence.

    References:
        Goodfellow and others (2014), Generative Adversarial Nets; Mirza and Osindero (2014), Conditional Generative
        Adversarial Nets; Gulrajani and others (2017), Improved Training of Wasserstein GANs.

    Example:
        >>> program = GAN(event_shape=(2,), latent_dim=4, divergence="wasserstein")
        >>> print(program.default_objective())
        - D[data(x) || model(x)]
        >>> program.generate(5).shape
        torch.Size([5, 2])
    """

    prior_loc: Tensor
    prior_scale: Tensor
    one_hot: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = 16,
        hidden: Sequence[int] = (128, 128),
        channels: Sequence[int] = (32, 64),
        classes: int | None = None,
        bounded: bool = False,
        divergence: str = "nonsaturating",
        gradient_penalty: float | None = None,
        critic_steps: int | None = None,
        critic_rate: float = 4e-4,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        self.event_shape = check_event_shape("GAN", event_shape)
        size = check_size("GAN", "latent_dim", latent_dim)
        self.classes = None if classes is None else check_size("GAN", "classes", classes)
        inputs = size + (self.classes or 0)
        self.generator = generator_of("GAN", inputs, self.event_shape, hidden, channels, bounded)
        critic = Critic(self.event_shape, hidden, channels, self.classes, spectral=spectral)
        self.keep_critic(critic, divergence, gradient_penalty, critic_steps, critic_rate)
        self.register_buffer("prior_loc", torch.zeros(size), persistent=False)
        self.register_buffer("prior_scale", torch.ones(size), persistent=False)
        self.register_buffer("one_hot", torch.eye(self.classes or 0), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape`` and ``bounded``, read off the array ``x``, and ``classes``, off ``y`` where there is one.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty.
        """
        x = data_array(data, "x", "GAN")
        labels = {"classes": int(data_array(data, "y", "GAN").max()) + 1} if "y" in data else {}
        return {"event_shape": x.shape[1:], "bounded": is_bounded(x), **labels}

    def default_objective(self) -> Objective:
        """Minus the divergence of what is generated from the data, with their labels."""
        return -self.game(*self._sites)

    @property
    def _sites(self) -> tuple[str, ...]:
        return ("x",) if self.classes is None else ("x", "y")

    def model(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Draws a datum for each row; the data tell only how many, and the labels which.

        Args:
            x: Data, ``(rows, *event_shape)``; one row is drawn by default.
            y: Labels from 0, ``(rows,)``; drawn evenly by default.

        Returns:
            What was generated.

        Raises:
            DataError: When the data or labels have another shape or dtype, or there is no such label.
            OptionError: When there are labels and the program has no classes.
        """
        with pyro.plate("data", self._rows(x, y)):
            labels = self._labels(y)
            z = pyro.sample("z", dist.Normal(self.prior_loc, self.prior_scale).to_event(1))
            return pyro.deterministic("x", self._made(z, labels), event_dim=len(self.event_shape))

    @torch.no_grad()
    def generate(self, rows: int | Tensor) -> Tensor:
        """Draws data.

        Args:
            rows: How many, or the labels of each, ``(rows,)``.

        Returns:
            Data, ``(rows, *event_shape)``.

        Raises:
            OptionError: When there are labels and the program has no classes.
            DataError: When there is no such label.
        """
        y = rows if isinstance(rows, Tensor) else None
        count = self._rows(None, y) if isinstance(rows, Tensor) else check_size("GAN", "rows", rows)
        if self.classes is not None and y is None:
            y = torch.randint(self.classes, (count,), device=self.prior_loc.device)
        return self._made(torch.randn_like(self.prior_loc.expand(count, -1)), y)

    def _made(self, z: Tensor, y: Tensor | None) -> Tensor:
        if y is not None and self.classes is not None:
            label = self.one_hot[y]
            z = torch.cat([z, label.expand(*z.shape[:-1], self.classes)], -1)
        made: Tensor = self.generator(z)
        return made

    def _labels(self, y: Tensor | None) -> Tensor | None:
        if self.classes is None:
            return None
        if y is not None:
            return pyro.deterministic("y", y, event_dim=0)
        labels: Tensor = pyro.sample("y", dist.Categorical(logits=self.prior_loc.new_zeros(self.classes)))
        return labels

    def _rows(self, x: Tensor | None, y: Tensor | None) -> int:
        rows = None
        if x is not None:
            check_dtype(self, "x", x, like=self.prior_loc)
            rows = check_rows(self, "x", x, self.event_shape)
        if y is not None and self.classes is None:
            raise OptionError("GAN: there are labels 'y', and the program has no classes. Remedy: classes=10.")
        if y is not None and self.classes is not None:
            check_index(self, "y", y, self.classes, "classes")
            rows = check_rows(self, "y", y, (), rows)
        return rows or 1


def generator_of(
    owner: str,
    inputs: int,
    event_shape: Sequence[int],
    hidden: Sequence[int],
    channels: Sequence[int],
    bounded: bool = False,
) -> nn.Module:
    """A network from vectors to data: a perceptron, or convolutions for images, with the critic's widths in reverse.

    Args:
        owner: The program, for messages.
        inputs: Length of the vectors.
        event_shape: Shape of a datum.
        hidden: Widths of the critic's hidden layers.
        channels: Of the critic's convolutions.
        bounded: Whether a sigmoid ends it.

    Raises:
        OptionError: When a size is no positive integer, or the shape is neither of vectors nor of images.

    Example:
        >>> generator_of("GAN", 4, (1, 8, 8), (16,), (4, 8))(torch.zeros(5, 4)).shape
        torch.Size([5, 1, 8, 8])
    """
    widths, depths = check_sizes(owner, "hidden", hidden), check_sizes(owner, "channels", channels)
    if len(check_event_shape(owner, event_shape)) == 1:
        network: nn.Module = MLP(inputs, event_shape[0], widths[::-1])
    else:
        network = ConvDecoder(inputs, event_shape, depths[::-1])
    return nn.Sequential(network, nn.Sigmoid()) if bounded else network


def is_bounded(x: np.ndarray) -> bool:
    """Whether all values lie between 0 and 1.

    Example:
        >>> is_bounded(np.array([[0.0, 0.5]])), is_bounded(np.array([[-1.0, 0.5]]))
        (True, False)
    """
    return bool(((x >= 0) & (x <= 1)).all())
