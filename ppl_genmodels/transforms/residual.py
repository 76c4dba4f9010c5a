r"""Residual layers: a value plus what a contraction makes of it.

Convention of this module: the contraction acts from data to noise, :math:`x = y + g(y)`, so that a density costs one
pass; from noise to data :math:`y` is found by iteration. An iteration is one operation of a traced graph, which itself
decides when to end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms.bijection import Bijection
from ppl_genmodels.transforms.lipschitz import Layers, LipschitzMLP, evaluate, push

__all__ = ["Residual"]

LogDet = Literal["exact", "series"]
Noise = Literal["rademacher", "gaussian"]

_DECIDES: dict[str, Any] = {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}
"""Of operations that read numbers to decide how long to go on, which no CUDA graph can hold."""


class Residual(Bijection):
    r"""A residual flow, :math:`x = y + g(y)` with a Lipschitz constant of :math:`g` below one.

    The exact log-determinant takes a Jacobian of features by features for each row. The series is

    .. math:: \log\det(I + J) = \sum_{k \ge 1} \frac{(-1)^{k+1}}{k} \operatorname{tr} J^k

    with traces by one draw of noise for each row. In training its length is drawn too, once for a call: value and
    gradient are unbiased. In evaluation it is so long that what is left out is below rounding; the traces stay random.

    Args:
        features: Length of the vectors.
        hidden: Widths of the hidden layers of :math:`g`.
        lipschitz: What the Lipschitz constant of :math:`g` does not exceed, between 0 and 1.
        log_det: ``"exact"`` for few features, or ``"series"``.
        noise: Of the series' traces, ``"rademacher"`` or ``"gaussian"``.

    Raises:
        OptionError: When an option is none of these, a size no positive integer, or the bound not between 0 and 1.

    References:
        Behrmann and others (2019), Invertible Residual Networks, section 2; Chen, Behrmann, Duvenaud and Jacobsen
        (2019), Residual Flows for Invertible Generative Modeling, equations 6 and 8.

    Example:
        >>> layer = Residual(3, hidden=(16,))
        >>> y = layer(torch.ones(5, 3))
        >>> torch.allclose(layer.inv(y), torch.ones(5, 3))
        True
    """

    def __init__(
        self,
        features: int,
        hidden: Iterable[int] = (64, 64),
        lipschitz: float = 0.9,
        log_det: LogDet = "exact",
        noise: Noise = "rademacher",
    ) -> None:
        super().__init__()
        for name, value, choices in (("log_det", log_det, get_args(LogDet)), ("noise", noise, get_args(Noise))):
            if value not in choices:
                raise OptionError(f"Residual: {name} is {' or '.join(map(repr, choices))}, got {value!r}.")
        self.network = LipschitzMLP(features, hidden, lipschitz)
        self.features, self.lipschitz, self.log_det, self.noise = features, lipschitz, log_det, noise

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        layers = self.network()
        with torch.no_grad():
            found = _fixed_point(x, layers.weights, layers.biases, self._steps(x))
        output, slopes = evaluate(found, layers)
        y = found + _Implicit.apply(x - output - found, layers.weights, slopes, self._steps(x))
        return y, self._ladj(y, evaluate(y, layers)[1], layers)

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        layers = self.network()
        output, slopes = evaluate(y, layers)
        return y + output, self._ladj(y, slopes, layers)

    def _steps(self, like: Tensor) -> int:
        """After how many steps what is left of a contraction's error is rounding."""
        return math.ceil(math.log(torch.finfo(like.dtype).eps) / math.log(self.lipschitz))

    def _ladj(self, y: Tensor, slopes: list[Tensor], layers: Layers) -> Tensor:
        """The log-determinant of the forward direction at ``y``, where the activations have these slopes."""
        if self.log_det == "series":
            return -self._series(y, slopes, layers)
        identity = torch.eye(self.features, dtype=y.dtype, device=y.device)
        jacobian = push(identity, layers.weights, [slope.unsqueeze(-2) for slope in slopes])
        return -torch.linalg.slogdet(identity + jacobian).logabsdet.expand(y.shape[:-1])

    def _series(self, y: Tensor, slopes: list[Tensor], layers: Layers) -> Tensor:
        """The value by products without gradient; the gradient by one product more."""
        noise = self._noise_like(y)
        weights, held = [weight.detach() for weight in layers.weights], [slope.detach() for slope in slopes]
        value, before = _power_series(noise, weights, held, *self._length(y))
        slope = (noise * push(before, layers.weights, slopes)).sum(-1)
        return value + slope - slope.detach()

    def _noise_like(self, y: Tensor) -> Tensor:
        if self.noise == "gaussian":
            return torch.randn(y.shape, dtype=y.dtype, device=y.device)
        return 2 * torch.randint(0, 2, y.shape, dtype=y.dtype, device=y.device) - 1

    def _length(self, y: Tensor) -> tuple[Tensor, float]:
        """How many terms are added, and by what the probability of each falls to the next.

        By the bound itself in training, so that weighted powers of the Jacobian do not grow.
        """
        if not self.training:
            return torch.full((), self._steps(y), dtype=torch.float64, device="cpu"), 1.0
        uniform = 1 - torch.rand((), dtype=torch.float64, device="cpu")
        return 1 + (uniform.log() / math.log(self.lipschitz)).floor(), self.lipschitz


class _Implicit(torch.autograd.Function):
    """The identity at a solution's rest, whose gradient is the solution's: times the inverse of I + J, transposed."""

    @staticmethod
    def forward(ctx: Any, rest: Tensor, weights: list[Tensor], slopes: list[Tensor], steps: int) -> Tensor:
        ctx.weights = [weight.detach().mT.contiguous() for weight in reversed(weights)]
        ctx.slopes = [slope.detach() for slope in reversed(slopes)]
        ctx.steps = steps
        return rest.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        return _linear_solve(slope, ctx.weights, ctx.slopes, ctx.steps), None, None, None


@torch.library.custom_op(
    "ppl_genmodels::residual_fixed_point",
    mutates_args=(),
    schema="(Tensor x, Tensor[] weights, Tensor[] biases, int steps) -> Tensor",
    **_DECIDES,
)
def _fixed_point(x: Tensor, weights: list[Tensor], biases: list[Tensor], steps: int) -> Tensor:
    """The ``y`` with ``y + g(y) = x``, by so many steps or as many as change something."""
    layers = Layers(weights, biases)
    return _iterated(lambda y: x - evaluate(y, layers)[0], x, steps)


@torch.library.custom_op(
    "ppl_genmodels::residual_linear_solve",
    mutates_args=(),
    schema="(Tensor x, Tensor[] weights, Tensor[] slopes, int steps) -> Tensor",
    **_DECIDES,
)
def _linear_solve(x: Tensor, weights: list[Tensor], slopes: list[Tensor], steps: int) -> Tensor:
    """The ``y`` with ``y + J y = x``."""
    return _iterated(lambda y: x - push(y, weights, slopes), x, steps)


@torch.library.custom_op(
    "ppl_genmodels::residual_power_series",
    mutates_args=(),
    schema="(Tensor noise, Tensor[] weights, Tensor[] slopes, Tensor length, float survival) -> (Tensor, Tensor)",
    **_DECIDES,
)
def _power_series(
    noise: Tensor, weights: list[Tensor], slopes: list[Tensor], length: Tensor, survival: float
) -> tuple[Tensor, Tensor]:
    """The series of the log-determinant, and the vector that the Jacobian is multiplied with for its gradient."""
    tangent, value, before = noise, noise.new_zeros(noise.shape[:-1]), torch.zeros_like(noise)
    for term in range(1, int(length) + 1):
        weight = (-1) ** (term + 1) / survival ** (term - 1)
        before = before + weight * tangent
        tangent = push(tangent, weights, slopes)
        value = value + weight / term * (noise * tangent).sum(-1)
    return value, before


@_fixed_point.register_fake
@_linear_solve.register_fake
def _like_first(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@_power_series.register_fake
def _like_noise(noise: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return noise.new_empty(noise.shape[:-1]), torch.empty_like(noise)


def _iterated(contraction: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """The fixed point, once a step changes nothing but the last digit."""
    eps, value = torch.finfo(start.dtype).eps, start
    for _ in range(steps):
        before, value = value, contraction(value)
        if torch.allclose(value, before, rtol=eps, atol=eps):
            break
    return value
