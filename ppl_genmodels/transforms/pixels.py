r"""From real numbers to the values of pixels, and back: the logistic preprocessing of image flows.

Convention of this module: a pixel of :math:`K` levels has values from 0 to :math:`K`, level :math:`k` being the cell
from :math:`k` to :math:`k + 1`; its forward direction leads from noise to data, as all of this package.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.nn.functional import logsigmoid

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["PixelSigmoid"]


class PixelSigmoid(Transform):
    r""":math:`v = K \, (\sigma(y) - \alpha) / (1 - 2 \alpha)`, so that values from 0 to :math:`K` have finite logits.

    Its inverse is the preprocessing :math:`y = \mathrm{logit}(\alpha + (1 - 2 \alpha) v / K)`. With a margin its image
    is a little wider than the values of pixels, on both sides by :math:`K \alpha / (1 - 2 \alpha)`; without one, values
    at the ends are taken a hair inside.

    Args:
        levels: :math:`K`, how many levels a pixel has.
        margin: :math:`\alpha`, at least 0 and below one half.

    Raises:
        OptionError: When a number is out of its range.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density Estimation Using Real NVP, section 4.1, which has a margin at
        zero alone; Papamakarios, Pavlakou and Murray (2017), Masked Autoregressive Flow for Density Estimation,
        appendix E, for one at both ends.

    Example:
        >>> PixelSigmoid(levels=256)(torch.zeros(2))
        tensor([128., 128.])
        >>> PixelSigmoid(levels=256).inv(torch.tensor([0.0, 256.0]))
        tensor([-2.9444,  2.9444])
    """

    domain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, levels: int = 256, margin: float = 0.05) -> None:
        super().__init__(cache_size=0)
        self.levels, self.margin = check_size("PixelSigmoid", "levels", levels), float(margin)
        if not 0 <= self.margin < 0.5:
            raise OptionError(
                f"PixelSigmoid: margin={margin!r}, expected 0 or more, and below 0.5. Remedy: margin=0.05."
            )
        beyond = self.levels * self.margin / (1 - 2 * self.margin)
        self.codomain = constraints.interval(-beyond, self.levels + beyond)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the log-derivative, both elementwise."""
        scale = self.levels / (1 - 2 * self.margin)
        return scale * (x.sigmoid() - self.margin), logsigmoid(x) + logsigmoid(-x) + math.log(scale)

    def inverse_and_ladj(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and the log-derivative of the forward direction, both elementwise."""
        scale, least = self.levels / (1 - 2 * self.margin), torch.finfo(y.dtype).eps
        log_share = (self.margin + y / scale).clamp(min=least).log()
        log_rest = (self.margin + (self.levels - y) / scale).clamp(min=least).log()
        return log_share - log_rest, log_share + log_rest + math.log(scale)

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inverse_and_ladj(y)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The log-derivative, elementwise."""
        return self.call_and_ladj(x)[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PixelSigmoid) and (self.levels, self.margin) == (other.levels, other.margin)

    def __hash__(self) -> int:
        return hash((self.levels, self.margin))
