"""ActNorm: a learned location and scale for each feature or channel, set by the first batch of data.

Convention of this module: inside :func:`first_data`, which ``fit`` opens for one run before training, the first data
that pass from data to noise set the parameters so that they leave with mean zero and variance one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection

__all__ = ["ActNorm", "first_data", "wait_for_data"]

_FIRST_DATA = ContextVar("first_data", default=False)


@contextmanager
def first_data() -> Iterator[None]:
    """While open, layers that are set by data are set, unless they are already.

    Example:
        >>> layer = ActNorm(1)
        >>> with first_data():
        ...     _ = layer.inv(torch.tensor([[1.0], [5.0]]))
        >>> layer.loc
        Parameter containing:
        tensor([3.], requires_grad=True)
    """
    token = _FIRST_DATA.set(True)
    try:
        yield
    finally:
        _FIRST_DATA.reset(token)


def wait_for_data(module: nn.Module) -> bool:
    """Whether a module has layers that data are to set.

    Example:
        >>> wait_for_data(nn.Sequential(ActNorm(1)))
        True
    """
    return any(isinstance(each, ActNorm) and not each.is_set for each in module.modules())


class ActNorm(Bijection):
    r""":math:`y = \mu + e^{s} x`, for each feature, or for each channel of images.

    Args:
        features: How many features or channels.
        event_dim: 1 for vectors, 3 for images (channels, height, width).

    References:
        Kingma and Dhariwal (2018), Glow, section 3.1.

    Example:
        >>> layer, data = ActNorm(2), torch.tensor([[1.0, 5.0], [3.0, 9.0]])
        >>> with first_data():
        ...     noise = layer.inv(data)
        >>> noise.mean(0).detach(), noise.std(0).detach()
        (tensor([0., 0.]), tensor([1.0000, 1.0000]))
    """

    def __init__(self, features: int, event_dim: int = 1) -> None:
        super().__init__(event_dim)
        size = (check_size("ActNorm", "features", features), *(1 for _ in range(event_dim - 1)))
        self.loc, self.log_scale = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("is_set", torch.tensor(False))

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        return self.loc + self.log_scale.exp() * x, self._ladj(x)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        if _FIRST_DATA.get() and not self.is_set:
            self._set(y.detach())
        return (y - self.loc) * (-self.log_scale).exp(), self._ladj(y)

    def _ladj(self, value: Tensor) -> Tensor:
        cells = value.shape[value.dim() - self._event_dim + 1 :].numel()
        return (cells * self.log_scale.sum()).expand(value.shape[: value.dim() - self._event_dim])

    @torch.no_grad()
    def _set(self, data: Tensor) -> None:
        """Sets the parameters by data, unless they are one row."""
        rows = data.movedim(-self._event_dim, -1).reshape(-1, len(self.loc))
        if data.shape[: data.dim() - self._event_dim].numel() < 2:
            return
        self.loc.copy_(rows.mean(0).reshape(self.loc.shape))
        self.log_scale.copy_(rows.std(0).clamp(min=1e-6).log().reshape(self.loc.shape))
        self.is_set.fill_(True)
