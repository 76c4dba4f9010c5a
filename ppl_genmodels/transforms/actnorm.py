"""ActNorm: a learned location and scale for each feature or channel, set by the first batch of data.

Convention of this module: the first data that pass from data to noise, more than one row of them, set the parameters so
that they leave with mean zero and variance one; a restored state is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection

__all__ = ["ActNorm"]


class ActNorm(Bijection):
    r""":math:`y = \mu + e^{s} x`, for each feature, or for each channel of images.

    Args:
        features: How many features or channels.
        event_dim: 1 for vectors, 3 for images (channels, height, width).

    References:
        Kingma and Dhariwal (2018), Glow, section 3.1.

    Example:
        >>> layer = ActNorm(2)
        >>> noise = layer.inv(torch.tensor([[1.0, 5.0], [3.0, 9.0]]))
        >>> noise.mean(0).detach(), noise.std(0).detach()
        (tensor([0., 0.]), tensor([1.0000, 1.0000]))
    """

    def __init__(self, features: int, event_dim: int = 1) -> None:
        super().__init__(event_dim)
        size = (check_size("ActNorm", "features", features), *(1 for _ in range(event_dim - 1)))
        self.loc, self.log_scale = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("is_set", torch.tensor(False))
        self._ready = False

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        return self.loc + self.log_scale.exp() * x, self._ladj(x)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        if not self._ready:
            self._set(y.detach())
        return (y - self.loc) * (-self.log_scale).exp(), self._ladj(y)

    def _ladj(self, value: Tensor) -> Tensor:
        cells = value.shape[value.dim() - self._event_dim + 1 :].numel()
        return (cells * self.log_scale.sum()).expand(value.shape[: value.dim() - self._event_dim])

    @torch.no_grad()
    def _set(self, data: Tensor) -> None:
        """Sets the parameters by data, unless it is one row."""
        rows = data.movedim(-self._event_dim, -1).reshape(-1, len(self.loc))
        if data.shape[: data.dim() - self._event_dim].numel() < 2:
            return
        self.loc.copy_(rows.mean(0).reshape(self.loc.shape))
        self.log_scale.copy_(rows.std(0).clamp(min=1e-6).log().reshape(self.loc.shape))
        self.is_set.fill_(True)
        self._ready = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._ready = bool(self.is_set)
