r"""The critic of a game: a score for each datum, or for each pair of a datum and what goes with it.

Convention of this module: it is called with data of shape (rows, \*event_shape), and maybe with labels, shape (rows),
or vectors, shape (rows, features), and gives scores of shape (rows), high where it takes them for data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import spectral_norm

from ppl_genmodels.networks.conv import ConvEncoder
from ppl_genmodels.networks.mlp import MLP
from ppl_genmodels.networks.sizes import check_event_shape, check_size, check_sizes

__all__ = ["Critic"]

SLOPE = 0.2
"""Of the activations, below zero."""


class Critic(nn.Module):
    r"""Scores of vectors by a perceptron, of images by convolutions and a perceptron after them.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        hidden: Widths of the perceptron's hidden layers.
        channels: Of the convolutions, for images.
        classes: How many labels there are, when it is called with data and labels.
        beside: Length of the vectors that it is called with beside the data; 0 for none.
        spectral: Whether the operator norm of each layer's matrix is held at one. For linear layers that bounds the
            slope of the layer; a convolution's matrix is its kernel, flattened, so that its slope may exceed one.

    Raises:
        OptionError: When a size is no positive integer, or the shape is neither of vectors nor of images.

    References:
        Mirza and Osindero (2014), Conditional Generative Adversarial Nets, for labels; Miyato, Kataoka, Koyama and
        Yoshida (2018), Spectral Normalization for Generative Adversarial Networks, section 2.1.

    Example:
        >>> critic = Critic((1, 8, 8), hidden=(16,), channels=(4,), classes=3)
        >>> critic(torch.zeros(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])).shape
        torch.Size([5])
    """

    one_hot: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        hidden: Sequence[int] = (128, 128),
        channels: Sequence[int] = (32, 64),
        classes: int | None = None,
        beside: int = 0,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        shape, widths = check_event_shape("Critic", event_shape), check_sizes("Critic", "hidden", hidden)
        self.classes = None if classes is None else check_size("Critic", "classes", classes)
        self.register_buffer("one_hot", torch.eye(self.classes or 0), persistent=False)
        features = (*widths, shape[0])[0]
        self.convolutions = ConvEncoder(shape, features, channels) if len(shape) == 3 else None
        inputs = (shape[0] if self.convolutions is None else features) + (self.classes or 0) + beside
        activation: Callable[[], nn.Module] = partial(nn.LeakyReLU, SLOPE)
        self.perceptron = MLP(inputs, 1, widths, activation)
        for layer in list(self.modules()) if spectral else ():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                spectral_norm(layer)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """The scores.

        Args:
            x: Data, ``(rows, *event_shape)``.
            beside: Labels, ``(rows,)``, or vectors, ``(rows, beside)``.
        """
        scores: Tensor = self.perceptron.layers[-1](self.features(x, beside)).squeeze(-1)
        return scores

    def features(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """What the last hidden layer makes of them, ``(rows, features)``.

        Args:
            x: As in :meth:`forward`.
            beside: As in :meth:`forward`.
        """
        if self.convolutions is not None:
            x = leaky_relu(self.convolutions(x), SLOPE)
        if beside is not None:
            x = torch.cat([x, beside if self.classes is None else self.one_hot[beside]], -1)
        found: Tensor = self.perceptron.layers[:-1](x)
        return found
