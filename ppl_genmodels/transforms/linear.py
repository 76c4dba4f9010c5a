r"""Invertible linear maps of features, or of the channels of images (the 1x1 convolution).

Convention of this module: the matrix is kept as :math:`W = P L (U + \mathrm{diag}(s))`, whose determinant is the
product of :math:`s`; it starts as a random rotation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.linalg import solve_triangular

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection

__all__ = ["InvertibleLinear", "Permute"]


class InvertibleLinear(Bijection):
    r""":math:`y = W x` along the features, or along the channels at each place of an image.

    Args:
        features: How many features or channels.
        event_dim: 1 for vectors, 3 for images (channels, height, width).

    References:
        Kingma and Dhariwal (2018), Glow, section 3.2 and equation 10.

    Example:
        >>> layer = InvertibleLinear(3)
        >>> layer.log_abs_det_jacobian(torch.ones(3), None).abs() < 1e-5  # a rotation at first
        tensor(True)
    """

    permutation: Tensor
    signs: Tensor

    def __init__(self, features: int, event_dim: int = 1) -> None:
        super().__init__(event_dim)
        features = check_size("InvertibleLinear", "features", features)
        rotation, _ = torch.linalg.qr(torch.randn(features, features))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("signs", diagonal.sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        lower, upper = self._factors()
        return self._times(self.permutation @ lower @ upper, x), self._ladj(x)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        inverse = solve_triangular(self.lower, self.permutation.mT, upper=False, unitriangular=True)  # reads below only
        return self._times(solve_triangular(self._upper(), inverse, upper=True), y), self._ladj(y)

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.signs), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + identity, self._upper()

    def _upper(self) -> Tensor:
        return self.upper.triu(1) + torch.diag(self.signs * self.log_diagonal.exp())

    def _times(self, matrix: Tensor, value: Tensor) -> Tensor:
        if self._event_dim == 1:
            return value @ matrix.mT
        places = value.shape[1 - self._event_dim :]
        return (matrix @ value.flatten(1 - self._event_dim)).unflatten(-1, places)

    def _ladj(self, value: Tensor) -> Tensor:
        places = value.shape[value.dim() - self._event_dim + 1 :].numel()
        return (places * self.log_diagonal.sum()).expand(value.shape[: value.dim() - self._event_dim])


class Permute(Bijection):
    """Features, or channels, in another order.

    Args:
        order: Where each comes from: a permutation of 0 to n - 1.
        event_dim: 1 for vectors, 3 for images.

    Raises:
        OptionError: When it is no permutation.

    Example:
        >>> Permute([2, 0, 1])(torch.tensor([1.0, 2.0, 3.0]))
        tensor([3., 1., 2.])
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor | list[int], event_dim: int = 1) -> None:
        super().__init__(event_dim)
        found = torch.as_tensor(order)
        if sorted(found.tolist()) != list(range(len(found))):
            raise OptionError(f"Permute: expected a permutation of 0 to {len(found) - 1}, got {found.tolist()}.")
        self.register_buffer("order", found)
        self.register_buffer("back", found.argsort(), persistent=False)

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and zero."""
        return x.index_select(-self._event_dim, self.order), self._zero(x)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and zero."""
        return y.index_select(-self._event_dim, self.back), self._zero(y)

    def _zero(self, value: Tensor) -> Tensor:
        return torch.zeros(value.shape[: value.dim() - self._event_dim], dtype=value.dtype, device=value.device)
