r"""Autoregressive layers: each number is mapped by what a network says of those before it.

Convention of this module: the direction that has all numbers before a number at hand takes one pass of the network; the
other takes the numbers one after the other, each by no more of the network than it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from pyro.nn.auto_reg_nn import MaskedLinear, create_mask
from torch import Tensor, nn
from torch.nn.functional import linear

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms.bijection import Bijection, sum_rightmost
from ppl_genmodels.transforms.coupling import check_context, zero_last
from ppl_genmodels.transforms.elementwise import Affine, ElementMap

__all__ = ["Autoregressive"]

Fast = Literal["density", "sampling"]
Through = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A direction of an element map: numbers and their parameters to numbers and log-derivatives."""


class Autoregressive(Bijection):
    r"""Maps each number given those before it, by a network with Pyro's masks.

    For fast densities :math:`x_i = g^{-1}(y_i; h(y_{<i}, c))`, a masked autoregressive flow; for fast sampling
    :math:`y_i = g(x_i; h(x_{<i}, c))`, an inverse autoregressive flow.

    Args:
        features: Length of the vectors.
        hidden: Widths of the network's hidden layers.
        element: The map of single numbers.
        fast: Which direction takes one pass; the other takes the features one by one.
        context_features: Length of the context; 0 for none.
        reverse: Whether each number is given those after it, in place of those before.

    Raises:
        OptionError: When ``fast`` is neither of the two, or there is no hidden layer.

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
        reverse: bool = False,
    ) -> None:
        super().__init__()
        if fast not in get_args(Fast):
            raise OptionError(f"Autoregressive: fast is 'density' or 'sampling', got {fast!r}.")
        self.features = check_size("Autoregressive", "features", features)
        self.element, self.fast, self.context_features = element or Affine(), fast, context_features
        order, widths = list(range(self.features)), check_sizes("Autoregressive", "hidden", tuple(hidden))
        if not widths:
            raise OptionError("Autoregressive: hidden=(), expected one width at least. Remedy: hidden=(64, 64).")
        self.network = _Masked(order[::-1] if reverse else order, context_features, widths, self.element.parameters)

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        return self._pass(self.element.forward, x, context, at_once=self.fast == "sampling")

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        return self._pass(self.element.inverse, y, context, at_once=self.fast == "density")

    def _pass(self, through: Through, value: Tensor, context: Tensor | None, at_once: bool) -> tuple[Tensor, Tensor]:
        check_context(context, self.context_features, "Autoregressive")
        if context is not None:
            batch = torch.broadcast_shapes(value.shape[:-1], context.shape[:-1])
            value, context = value.expand(*batch, -1), context.expand(*batch, -1)
        if at_once:
            found, ladj = through(value, self.network(value, context))
        else:
            found, ladj = self.network.one_by_one(through, value, context)
        return found, sum_rightmost(ladj, 1)


class _Masked(nn.Module):
    """A perceptron with ReLU that gives each number parameters that depend on the numbers before it, and a context.

    The last layer starts at zero.
    """

    def __init__(self, order: list[int], context_features: int, widths: tuple[int, ...], parameters: int) -> None:
        super().__init__()
        self.order, self.context_features, self.parameters_each = order, context_features, parameters
        masks, _ = create_mask(len(order), context_features, list(widths), torch.tensor(order), 1)
        masks[-1] = masks[-1].repeat_interleave(parameters, 0)
        self.layers = nn.ModuleList(MaskedLinear(mask.shape[1], mask.shape[0], mask) for mask in masks)
        zero_last(self.layers)

    def forward(self, value: Tensor, context: Tensor | None) -> Tensor:
        r"""The parameters of all numbers, shape (\*batch, features, parameters)."""
        hidden = value if context is None else torch.cat([context, value], -1)
        *layers, last = self._layers()
        for weight, bias in layers:
            hidden = linear(hidden, weight, bias).relu()
        return linear(hidden, *last).unflatten(-1, (len(self.order), self.parameters_each))

    def one_by_one(self, through: Through, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The numbers mapped in order, each given what those before it were mapped to, and their log-derivatives.

        A number found adds its share to what enters the hidden layers, so that no layer is evaluated for the others.
        """
        first, *middle, last = self._layers()
        columns = first[0].split([self.context_features, len(self.order)], -1)
        known, found = first[1] if context is None else linear(context, columns[0], first[1]), {}
        for place in self.order:
            hidden, mine = known.relu(), slice(place * self.parameters_each, (place + 1) * self.parameters_each)
            for weight, bias in middle:
                hidden = linear(hidden, weight, bias).relu()
            found[place] = through(value[..., place], linear(hidden, last[0][mine], last[1][mine]))
            known = known + found[place][0].unsqueeze(-1) * columns[1][:, place]
        values, ladj = zip(*(found[place] for place in range(len(self.order))), strict=True)
        return torch.stack(values, -1), torch.stack(ladj, -1)

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """The masked weights, and the biases."""
        layers: Iterable[Any] = self.layers
        return [(layer.weight * layer.mask, layer.bias) for layer in layers]
