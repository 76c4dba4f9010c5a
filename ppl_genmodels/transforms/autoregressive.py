r"""Autoregressive layers: each number is mapped by what a network says of those before it.

Convention of this module: the direction that has all numbers before a number at hand takes one pass; the other takes
one pass for each feature.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from pyro.nn import AutoRegressiveNN, ConditionalAutoRegressiveNN
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms.bijection import Bijection, sum_rightmost
from ppl_genmodels.transforms.coupling import check_context
from ppl_genmodels.transforms.elementwise import Affine, ElementMap

__all__ = ["Autoregressive"]

Fast = Literal["density", "sampling"]


class Autoregressive(Bijection):
    r"""Maps each number given those before it, by Pyro's masked network.

    For fast densities :math:`x_i = g^{-1}(y_i; h(y_{<i}, c))`, a masked autoregressive flow; for fast sampling
    :math:`y_i = g(x_i; h(x_{<i}, c))`, an inverse autoregressive flow.

    Args:
        features: Length of the vectors.
        hidden: Widths of the network's hidden layers.
        element: The map of single numbers.
        fast: Which direction takes one pass; the other takes as many as there are features.
        context_features: Length of the context; 0 for none.

    Raises:
        OptionError: When ``fast`` is neither of the two.

    References:
        Papamakarios, Pavlakou and Murray (2017), Masked Autoregressive Flow for Density Estimation, section 3; Kingma
        and others (2016), Improved Variational Inference with Inverse Autoregressive Flow, section 4.

    Example:
        >>> layer = Autoregressive(3, hidden=(16,))
        >>> y = layer(torch.ones(5, 3))
        >>> torch.allclose(layer.inv(y), torch.ones(5, 3))
        True
    """

    def __init__(
        self,
        features: int,
        hidden: Iterable[int] = (64, 64),
        element: ElementMap | None = None,
        fast: Fast = "density",
        context_features: int = 0,
    ) -> None:
        super().__init__()
        if fast not in get_args(Fast):
            raise OptionError(f"Autoregressive: fast is 'density' or 'sampling', got {fast!r}.")
        self.features = check_size("Autoregressive", "features", features)
        self.element, self.fast, self.context_features = element or Affine(), fast, context_features
        widths, order = list(check_sizes("Autoregressive", "hidden", tuple(hidden))), torch.arange(features)
        sizes = [1] * self.element.parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a single feature, whose map is the same for all values
            self.network = self._masked(widths, sizes, order)
        for parameter in self.network.layers[-1].parameters():  # type: ignore[index, union-attr]
            nn.init.zeros_(parameter)

    def _masked(self, widths: list[int], sizes: list[int], order: Tensor) -> nn.Module:
        if self.context_features:
            return ConditionalAutoRegressiveNN(self.features, self.context_features, widths, sizes, order)
        return AutoRegressiveNN(self.features, widths, sizes, order)

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        if self.fast == "sampling":
            y, ladj = self.element.forward(x, self._of_network(x, context))
            return y, sum_rightmost(ladj, 1)
        y = torch.zeros_like(x)
        for _ in range(self.features):
            y, ladj = self.element.forward(x, self._of_network(y, context))
        return y, sum_rightmost(ladj, 1)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        if self.fast == "density":
            x, ladj = self.element.inverse(y, self._of_network(y, context))
            return x, sum_rightmost(ladj, 1)
        x = torch.zeros_like(y)
        for _ in range(self.features):
            x, ladj = self.element.inverse(y, self._of_network(x, context))
        return x, sum_rightmost(ladj, 1)

    def _of_network(self, value: Tensor, context: Tensor | None) -> Tensor:
        check_context(context, self.context_features, "Autoregressive")
        if context is not None:
            batch = torch.broadcast_shapes(value.shape[:-1], context.shape[:-1])
            value, context = value.expand(*batch, -1), context.expand(*batch, -1)
        found = self.network(value) if context is None else self.network(value, context)
        return torch.stack(found if isinstance(found, tuple) else (found,), -1)
