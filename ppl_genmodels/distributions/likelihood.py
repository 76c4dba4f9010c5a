"""Likelihoods of pixels or other observations: from a decoder's output to a datum's distribution.

Convention of this module: a likelihood that needs K network outputs per pixel takes them along the
first event dim: for data of shape ``(D,)`` an output ``(..., D * K)``, for images ``(C, H, W)`` an
output ``(..., C * K, H, W)``, the K outputs of one pixel next to each other. All event dims are
declared, so one datum has one log-density.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_genmodels.distributions.level_categorical import LevelCategorical
from ppl_genmodels.errors import DataError, OptionError, ProgramError, UnknownNameError
from ppl_genmodels.networks.sizes import check_size

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "GaussianLikelihood",
    "Likelihood",
    "build_likelihood",
]

INITIAL_SCALE = 0.4
"""Where a learned Gaussian scale starts: about the spread of pixels between 0 and 1."""


class Likelihood(nn.Module, ABC):
    """Calling it on a decoder's output gives the distribution of a datum.

    Args:
        event_shape: Shape of one datum.

    Attributes:
        event_shape: Shape of one datum.
        outputs_per_pixel: How many network outputs one pixel needs.
        remedy: What to do about data outside the support.
    """

    outputs_per_pixel: int = 1
    remedy: str = ""

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.event_shape = torch.Size(event_shape)

    @property
    def output_shape(self) -> torch.Size:
        """Shape of the decoder's output for one datum."""
        first, *rest = self.event_shape
        return torch.Size((first * self.outputs_per_pixel, *rest))

    @property
    @abstractmethod
    def support(self) -> constraints.Constraint:
        """The values that one pixel may have."""

    @abstractmethod
    def _pixels(self, output: Tensor) -> dist.TorchDistribution:
        """The distribution of each pixel; ``output`` has the shape ``(..., *output_shape)``."""

    def forward(self, output: Tensor) -> dist.TorchDistribution:
        """The distribution of a datum, with event shape ``event_shape``.

        Args:
            output: A decoder's output, ``(..., *output_shape)``.

        Raises:
            ProgramError: When the output has another shape.
        """
        if output.shape[-len(self.event_shape) :] != self.output_shape:
            expected = ", ".join(map(str, self.output_shape))
            raise ProgramError(
                f"{type(self).__name__} received a decoder's output of shape "
                f"{tuple(output.shape)}, expected (..., {expected}): {self.outputs_per_pixel} per "
                f"pixel. Remedy: let the decoder's output have the likelihood's output_shape."
            )
        return self._pixels(output).to_event(len(self.event_shape))

    def features(self, value: Tensor) -> Tensor:
        """Data as an encoder reads them: real numbers of order one, of the same shape."""
        return value

    def check(self, owner: str, name: str, value: Tensor) -> None:
        """Checks that every pixel lies in the support; NaN, a missing value, passes.

        Like a distribution's own check it is made only while Pyro's validation is on, since it
        reads values on the host, which a traced step cannot.

        Args:
            owner: The program, for the message.
            name: The site, for the message.
            value: Data of shape ``(..., *event_shape)``.

        Raises:
            DataError: When a pixel lies outside.
        """
        if not dist.is_validation_enabled() or value.numel() == 0:
            return
        missing = value.isnan()
        outside = ~(self.support.check(value) | missing) | value.isinf()
        if outside.any():
            present = value[~missing]
            raise DataError(
                f"{owner}: '{name}' has {int(outside.sum())} values that {type(self).__name__} "
                f"cannot have made; its values run from {present.min().item():.4g} to "
                f"{present.max().item():.4g}. Remedy: {self.remedy}."
            )


class BernoulliLikelihood(Likelihood):
    r"""Binary pixels, :math:`x_i \sim \mathrm{Bernoulli}(\mathrm{sigmoid}(o_i))`.

    Pixels are 0 or 1. Grey values between them are refused: the Bernoulli mass is no density there
    and its sum over :math:`[0, 1]` is not one, so evidences would not compare. Binarise them, at a
    threshold or at random.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, appendix C.1.

    Example:
        >>> likelihood = BernoulliLikelihood((64,))
        >>> likelihood(torch.zeros(5, 64)).log_prob(torch.ones(64)).shape
        torch.Size([5])
    """

    remedy = "binarise the pixels, (x > 0.5).float(), or choose likelihood='gaussian'"

    @property
    def support(self) -> constraints.Constraint:
        """0 and 1."""
        return constraints.boolean

    def _pixels(self, output: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=output)


class GaussianLikelihood(Likelihood):
    r"""Real pixels, :math:`x_i \sim \mathcal{N}(o_i, \sigma^2)` with one learned :math:`\sigma` for
    all pixels.

    Example:
        >>> likelihood = GaussianLikelihood((64,))
        >>> round(likelihood.scale.item(), 3)
        0.4
        >>> likelihood(torch.zeros(5, 64)).event_shape
        torch.Size([64])
    """

    remedy = "drop or mask rows with infinite values"

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__(event_shape)
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))

    @property
    def scale(self) -> Tensor:
        """The standard deviation of every pixel, a scalar, in the data's unit."""
        return self.log_scale.exp()

    @property
    def support(self) -> constraints.Constraint:
        """The real numbers."""
        return constraints.real

    def _pixels(self, output: Tensor) -> dist.TorchDistribution:
        return dist.Normal(output, self.scale)


class CategoricalLikelihood(Likelihood):
    r"""Integer pixels, :math:`x_i \sim \mathrm{Categorical}(\mathrm{softmax}(o_i))` over K levels.

    Args:
        event_shape: Shape of one datum.
        levels: K; pixels are 0, 1, ..., K-1, of an integer or a floating dtype.

    Raises:
        OptionError: When there are fewer than two levels.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu (2016), Pixel Recurrent Neural Networks, section
        3.3.

    Example:
        >>> likelihood = CategoricalLikelihood((3, 8, 8), levels=17)
        >>> likelihood.output_shape
        torch.Size([51, 8, 8])
        >>> likelihood(torch.zeros(5, 51, 8, 8)).mean[0, 0, 0, 0]
        tensor(8.)
    """

    highest: Tensor

    def __init__(self, event_shape: Sequence[int], levels: int = 256) -> None:
        super().__init__(event_shape)
        if check_size("CategoricalLikelihood", "levels", levels) < 2:
            raise OptionError(
                f"CategoricalLikelihood: levels={levels}, expected 2 or more. Remedy: set levels "
                f"to the number of values that a pixel can have, 256 for bytes."
            )
        self.outputs_per_pixel = int(levels)
        self.remedy = f"give integers 0 to {levels - 1}, or set levels to the largest plus one"
        self.register_buffer("highest", torch.tensor(float(levels - 1)), persistent=False)

    @property
    def support(self) -> constraints.Constraint:
        """The integers from 0 to K-1."""
        return constraints.integer_interval(0, self.outputs_per_pixel - 1)

    def features(self, value: Tensor) -> Tensor:
        """Levels scaled to numbers between 0 and 1."""
        return value.to(self.highest.dtype) / self.highest

    def _pixels(self, output: Tensor) -> dist.TorchDistribution:
        first_event_dim = -len(self.event_shape)
        split = output.unflatten(first_event_dim, (self.event_shape[0], self.outputs_per_pixel))
        return LevelCategorical(logits=split.movedim(first_event_dim, -1))


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "categorical": CategoricalLikelihood,
}
"""Likelihoods by the names that programs take."""


def build_likelihood(name: str, event_shape: Sequence[int], levels: int = 256) -> Likelihood:
    """A likelihood by name.

    Args:
        name: ``"bernoulli"``, ``"gaussian"`` or ``"categorical"``.
        event_shape: Shape of one datum.
        levels: Number of values of a categorical pixel; the others ignore it.

    Raises:
        UnknownNameError: When there is no likelihood of that name.
        OptionError: When a categorical has fewer than two levels.

    Example:
        >>> build_likelihood("bernoulli", (64,)).output_shape
        torch.Size([64])
    """
    if name not in LIKELIHOODS:
        raise UnknownNameError("likelihood", name, LIKELIHOODS)
    if name == "categorical":
        return CategoricalLikelihood(event_shape, levels)
    return LIKELIHOODS[name](event_shape)
