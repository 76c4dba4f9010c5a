r"""Layers whose scales are statistics of data: batch normalization, and whitening.

Convention of this module: both make data standard on their way to noise. Statistics are buffers, which are saved and
restored with the module; a log-determinant is that of the map with its statistics held as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.transforms.bijection import Bijection
from ppl_genmodels.transforms.set_by_data import SetByData

__all__ = ["BatchNorm", "Whitening"]

_SMALLEST_VARIANCE = 1e-5
_SMALLEST_SCALE = 1e-6
_RIDGE = 1e-6
"""Share of each feature's variance that is added to it, so that features that depend on one another have a factor."""


class BatchNorm(Bijection):
    r"""Batch normalization as a layer of a flow: :math:`x = \beta + e^{\gamma} (y - m) / \sqrt{v + \epsilon}`.

    From data to noise in training, :math:`m` and :math:`v` are the batch's mean and variance, through which gradients
    flow, and the running ones move towards them. From noise to data, in evaluation, and for a single row they are the
    running ones. In training a draw therefore has its density under the running statistics, and data under the batch's.

    Args:
        features: How many features or channels.
        event_dim: 1 for vectors, 3 for images (channels, height, width).
        momentum: The new batch's share in the running statistics, between 0 and 1.

    Raises:
        OptionError: When ``features`` is no positive integer, or the momentum not in (0, 1].

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 3.7; Papamakarios, Pavlakou
        and Murray (2017), Masked Autoregressive Flow for Density Estimation, appendix B.

    Example:
        >>> layer, data = BatchNorm(2), torch.tensor([[1.0, 5.0], [3.0, 9.0]])
        >>> layer.inv(data).detach()
        tensor([[-1.0000, -1.0000],
                [ 1.0000,  1.0000]])
        >>> layer.mean
        tensor([0.2000, 0.7000])
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, event_dim: int = 1, momentum: float = 0.1) -> None:
        super().__init__(event_dim)
        if not 0 < momentum <= 1:
            raise OptionError(f"BatchNorm: momentum={momentum}, expected more than 0, at most 1. Remedy: 0.1.")
        size = (check_size("BatchNorm", "features", features), *(1 for _ in range(event_dim - 1)))
        self.momentum = momentum
        self.loc, self.log_scale = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant, by the running statistics."""
        log_scale = self._log_scale(self.variance)
        return self.mean + (x - self.loc) * log_scale.exp(), self._ladj(x, log_scale)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction; in training by the batch's statistics."""
        mean, variance = self._statistics(y)
        log_scale = self._log_scale(variance)
        return self.loc + (y - mean) * (-log_scale).exp(), self._ladj(y, log_scale)

    def _statistics(self, data: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training or data.shape[: data.dim() - self._event_dim].numel() < 2:
            return self.mean, self.variance
        rows = data.movedim(-self._event_dim, -1).flatten(0, -2)
        mean, variance = rows.mean(0).reshape(self.mean.shape), rows.var(0, correction=0).reshape(self.mean.shape)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance * (len(rows) / (len(rows) - 1)), self.momentum)
        return mean, variance

    def _log_scale(self, variance: Tensor) -> Tensor:
        return 0.5 * (variance + _SMALLEST_VARIANCE).log() - self.log_scale

    def _ladj(self, value: Tensor, log_scale: Tensor) -> Tensor:
        cells = value.shape[value.dim() - self._event_dim + 1 :].numel()
        return (cells * log_scale.sum()).expand(value.shape[: value.dim() - self._event_dim])


class Whitening(SetByData):
    r""":math:`y = \mu + L x`, by the mean and the covariance :math:`L L^\top` of the first data; nothing is learned.

    A millionth of each variance is added to it, so that a feature that others determine is no obstacle, and a standard
    deviation is at least a millionth. Until data have set it, it is the identity.

    Args:
        features: Length of the vectors.

    Raises:
        DataError: When the first data are so few that their covariance says nothing of some direction.

    Example:
        >>> from ppl_genmodels.transforms import first_data
        >>> layer, data = Whitening(2), torch.tensor([[1.0, 5.0], [3.0, 9.0], [2.0, 1.0]])
        >>> with first_data():
        ...     noise = layer.inv(data)
        >>> torch.allclose(noise.T.cov(), torch.eye(2), atol=1e-5)
        True
    """

    loc: Tensor
    scale_tril: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        features = check_size("Whitening", "features", features)
        self.register_buffer("loc", torch.zeros(features))
        self.register_buffer("scale_tril", torch.eye(features))

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        return self.loc + x @ self.scale_tril.mT, self._ladj(x)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        self.see(y)
        rows = (y - self.loc).reshape(-1, len(self.loc))
        x = torch.linalg.solve_triangular(self.scale_tril, rows.mT, upper=False).mT
        return x.reshape(y.shape), self._ladj(y)

    def set_by(self, rows: Tensor) -> None:
        """Sets the mean and the factor of the covariance.

        Raises:
            DataError: When there are no more rows than features.
        """
        count, features = rows.shape
        if count <= features:
            raise DataError(
                f"Whitening: {count} rows of {features} features, expected at least {features + 1} for a covariance. "
                f"Remedy: batch_size={features + 1} or more, or ActNorm, which needs two rows."
            )
        loc, scale = rows.mean(0), rows.std(0).clamp(min=_SMALLEST_SCALE)
        standard = (rows - loc) / scale / (count - 1) ** 0.5
        ridge = _RIDGE**0.5 * torch.eye(features, dtype=rows.dtype, device=rows.device)
        # The triangle of a QR decomposition is the Cholesky factor, without squaring what rounding did.
        upper = torch.linalg.qr(torch.cat([standard, ridge]), mode="r").R
        self.loc.copy_(loc)
        self.scale_tril.copy_(scale.unsqueeze(-1) * (upper * upper.diagonal().sign().unsqueeze(-1)).mT)

    def _ladj(self, value: Tensor) -> Tensor:
        return self.scale_tril.diagonal().log().sum().expand(value.shape[:-1])
