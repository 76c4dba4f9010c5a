r"""Coupling layers: one part of an event decides how the other is mapped.

Convention of this module: the parts are given by the indices along one dim, features for vectors and channels for
images; the network starts at zero, so that a layer starts as the identity.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import MLP
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection, sum_rightmost
from ppl_genmodels.transforms.elementwise import Affine, ElementMap

__all__ = ["Coupling"]


class Coupling(Bijection):
    r"""Maps one part of a vector elementwise by what a network says of the other: :math:`y_b = g(x_b; h(x_a, c))`.

    Both directions cost one pass. Use two with opposite parts, or permutations between.

    Args:
        features: Length of the vectors, at least 2.
        hidden: Widths of the network's hidden layers.
        element: The map of single numbers.
        swap: Whether the first half is mapped, given the second; otherwise the second, given the first.
        context_features: Length of the context; 0 for none.

    Raises:
        OptionError: When there are fewer than two features.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 3.

    Example:
        >>> layer = Coupling(3, hidden=(8,))
        >>> layer(torch.ones(5, 3)).shape, layer.log_abs_det_jacobian(torch.ones(5, 3), None).shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self,
        features: int,
        hidden: Iterable[int] = (64, 64),
        element: ElementMap | None = None,
        swap: bool = False,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        if check_size("Coupling", "features", features) < 2:
            raise OptionError(f"Coupling: features={features}, expected 2 or more, as one part maps the other.")
        self.element, self.context_features, self.swap = element or Affine(), context_features, swap
        self.mapped = features // 2 if swap else features - features // 2
        self.given = features - self.mapped
        self.network = MLP(self.given + context_features, self.mapped * self.element.parameters, hidden)
        zero_last(self.network.layers)

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        given, moved = self._parts(x)
        y, ladj = self.element.forward(moved, self._of_network(given, context))
        return self._joined(given, y), sum_rightmost(ladj, 1)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        given, moved = self._parts(y)
        x, ladj = self.element.inverse(moved, self._of_network(given, context))
        return self._joined(given, x), sum_rightmost(ladj, 1)

    def _parts(self, value: Tensor) -> tuple[Tensor, Tensor]:
        if self.swap:
            moved, given = value.split([self.mapped, self.given], -1)
        else:
            given, moved = value.split([self.given, self.mapped], -1)
        return given, moved

    def _joined(self, given: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, given] if self.swap else [given, moved], -1)

    def _of_network(self, given: Tensor, context: Tensor | None) -> Tensor:
        check_context(context, self.context_features, "Coupling")
        if context is not None:
            batch = torch.broadcast_shapes(given.shape[:-1], context.shape[:-1])
            given = torch.cat([given.expand(*batch, -1), context.expand(*batch, -1)], -1)
        return self.network(given).unflatten(-1, (self.mapped, self.element.parameters))


def zero_last(layers: nn.Sequential | nn.ModuleList) -> None:
    """Sets a network's last layer to zero."""
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)


def check_context(context: Tensor | None, size: int, owner: str, of: str = "features", dim: int = -1) -> None:
    """Refuses a context of another size than was declared.

    Args:
        context: What was given.
        size: Its length along ``dim``, as it was declared; 0 for none.
        owner: The layer, for the message.
        of: What is counted, for the message.
        dim: Where it is counted.

    Raises:
        OptionError: When there is a context where none was declared, none where one was, or one of another size.
    """
    got = 0 if context is None else context.shape[dim]
    if got != size:
        raise OptionError(
            f"{owner}: expected a context of {size or 'no'} {of}, got {got or 'none'}. Remedy: context_{of}={got} for "
            f"the layer, or condition it on {f'one of {size}' if size else 'nothing'}."
        )
