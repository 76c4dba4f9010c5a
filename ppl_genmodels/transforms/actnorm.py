"""ActNorm: a learned location and scale for each feature or channel, set by the first batch of data.

Convention of this module: inside :func:`~ppl_genmodels.transforms.first_data`, which ``fit`` opens for one run before
training, the first data that pass from data to noise set the parameters so that they leave with mean zero and variance
one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.set_by_data import SetByData

__all__ = ["ActNorm"]


class ActNorm(SetByData):
    r""":math:`y = \mu + e^{s} x`, for each feature, or for each channel of images.

    Args:
        features: How many features or channels.
        event_dim: 1 for vectors, 3 for images (channels, height, width).

    References:
        Kingma and Dhariwal (2018), Glow, section 3.1.

    Example:
        >>> from ppl_genmodels.transforms import first_data
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

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        return self.loc + self.log_scale.exp() * x, self._ladj(x)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        self.see(y)
        return (y - self.loc) * (-self.log_scale).exp(), self._ladj(y)

    def set_by(self, rows: Tensor) -> None:
        """Sets location and scale by the rows' means and standard deviations."""
        self.loc.copy_(rows.mean(0).reshape(self.loc.shape))
        self.log_scale.copy_(rows.std(0).clamp(min=1e-6).log().reshape(self.loc.shape))

    def _ladj(self, value: Tensor) -> Tensor:
        cells = value.shape[value.dim() - self._event_dim + 1 :].numel()
        return (cells * self.log_scale.sum()).expand(value.shape[: value.dim() - self._event_dim])
