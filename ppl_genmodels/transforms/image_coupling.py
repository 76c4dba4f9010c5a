r"""Coupling layers of images: one part of the channels, or of the places, decides how the other is mapped.

Convention of this module: images are (channels, height, width), a context is an image of the same height and width;
the networks are convolutions whose last one starts at zero, so that a layer starts as the identity. Batch dims are
flattened for the convolutions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection, sum_rightmost
from ppl_genmodels.transforms.coupling import check_context
from ppl_genmodels.transforms.elementwise import Affine, ElementMap

__all__ = ["ChannelCoupling", "CheckerboardCoupling"]

Direction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""One direction of an elementwise map."""


class _ImageCoupling(Bijection):
    """What both have in common: the network's outputs as parameters of an elementwise map.

    Args:
        given: Channels that the network reads.
        mapped: Channels that are mapped.
        hidden: Channels between the convolutions.
        element: The map of single numbers.
        context_channels: Channels of the context, an image; 0 for none.
    """

    def __init__(self, given: int, mapped: int, hidden: int, element: ElementMap | None, context_channels: int) -> None:
        super().__init__(event_dim=3)
        self.element, self.mapped = element or Affine(), mapped
        self.context_channels = self.context_features = context_channels
        width = check_size(type(self).__name__, "hidden", hidden)
        self.network = nn.Sequential(
            nn.Conv2d(given + context_channels, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            ZeroConv(width, mapped * self.element.parameters),
        )

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        return self._mapped(self.element.forward, x, context)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        return self._mapped(self.element.inverse, y, context)

    @abstractmethod
    def _mapped(self, of_element: Direction, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image under one direction of the elementwise map, and the log-determinant of the forward one."""

    def _of_network(self, given: Tensor, context: Tensor | None) -> Tensor:
        r"""Parameters of the elementwise map, shape (\*batch, mapped, height, width, parameters)."""
        check_context(context, self.context_channels, type(self).__name__, of="channels", dim=-3)
        if context is not None:
            batch = torch.broadcast_shapes(given.shape[:-3], context.shape[:-3])
            given = torch.cat([each.expand(*batch, -1, -1, -1) for each in (given, context)], -3)
        rows = given.reshape(-1, *given.shape[-3:])
        found: Tensor = self.network(rows.contiguous(memory_format=torch.channels_last))  # faster on processors
        return found.reshape(*given.shape[:-3], self.element.parameters, self.mapped, *given.shape[-2:]).movedim(-4, -1)


class ChannelCoupling(_ImageCoupling):
    r"""Maps one half of the channels by what convolutions say of the other: :math:`y_b = g(x_b; h(x_a, c))`.

    Args:
        channels: Channels of the images, at least 2.
        hidden: Channels between the three convolutions, which are 3x3, 1x1 and 3x3.
        element: The map of single numbers; affine by default.
        swap: Whether the first half is mapped, given the second; otherwise the second, given the first.
        context_channels: Channels of the context, an image of the same height and width; 0 for none.

    Raises:
        OptionError: When there are fewer than two channels.

    References:
        Kingma and Dhariwal (2018), Glow, section 3.3 and appendix B.

    Example:
        >>> layer = ChannelCoupling(4, hidden=8)
        >>> layer(torch.ones(5, 4, 6, 6)).shape, layer.log_abs_det_jacobian(torch.ones(5, 4, 6, 6), None).shape
        (torch.Size([5, 4, 6, 6]), torch.Size([5]))
    """

    def __init__(
        self,
        channels: int,
        hidden: int = 64,
        element: ElementMap | None = None,
        swap: bool = False,
        context_channels: int = 0,
    ) -> None:
        if check_size("ChannelCoupling", "channels", channels) < 2:
            raise OptionError(
                f"ChannelCoupling: channels={channels}, expected 2 or more, as one part maps the other. Remedy: "
                f"squeeze the images first, or CheckerboardCoupling."
            )
        self.swap, half = swap, channels // 2
        mapped = half if swap else channels - half
        super().__init__(channels - mapped, mapped, hidden, element, context_channels)

    def _mapped(self, of_element: Direction, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        first = self.mapped if self.swap else value.shape[-3] - self.mapped
        parts = value.split([first, value.shape[-3] - first], -3)
        moved, given = parts if self.swap else parts[::-1]
        image, ladj = of_element(moved, self._of_network(given, context))
        return torch.cat([image, given] if self.swap else [given, image], -3), sum_rightmost(ladj, 3)


class CheckerboardCoupling(_ImageCoupling):
    r"""Maps the places of one colour of a checkerboard by what convolutions say of the others.

    Args:
        channels: Channels of the images.
        hidden: Channels between the three convolutions, which are 3x3, 1x1 and 3x3.
        element: The map of single numbers; affine by default.
        swap: Whether the places of the corner's colour are mapped; otherwise the others.
        context_channels: Channels of the context, an image of the same height and width; 0 for none.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 3.4.

    Example:
        >>> layer = CheckerboardCoupling(1, hidden=8)
        >>> layer(torch.ones(5, 1, 6, 6)).shape, layer.log_abs_det_jacobian(torch.ones(5, 1, 6, 6), None).shape
        (torch.Size([5, 1, 6, 6]), torch.Size([5]))
    """

    def __init__(
        self,
        channels: int,
        hidden: int = 64,
        element: ElementMap | None = None,
        swap: bool = False,
        context_channels: int = 0,
    ) -> None:
        channels, self.swap = check_size("CheckerboardCoupling", "channels", channels), swap
        super().__init__(channels, channels, hidden, element, context_channels)

    def _mapped(self, of_element: Direction, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        moves = self._moves(value)
        image, ladj = of_element(value, self._of_network(torch.where(moves, 0.0, value), context))
        return torch.where(moves, image, value), sum_rightmost(torch.where(moves, ladj, 0.0), 3)

    def _moves(self, value: Tensor) -> Tensor:
        """Which places are mapped, shape (height, width)."""
        row, column = (torch.arange(size, device=value.device) for size in value.shape[-2:])
        return (row.unsqueeze(-1) + column) % 2 == (0 if self.swap else 1)


class ZeroConv(nn.Conv2d):
    r"""A 3x3 convolution that starts at zero, its outputs times :math:`e^{3 s}`, :math:`s` learned for each channel.

    The factor lets outputs grow sooner than the small steps of an optimizer would.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.

    References:
        Kingma and Dhariwal (2018), Glow, section 3.3 (zero initialization), and the code published with it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        self.log_scale = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        """The scaled convolution."""
        return super().forward(input) * (3 * self.log_scale).exp()
