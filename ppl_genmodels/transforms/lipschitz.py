r"""A perceptron that moves outputs less than inputs: its Lipschitz constant is below a given bound.

Convention of this module: the network is handed on as its layers, whose weights are already scaled, with
:math:`\mathrm{silu}(h) = h / (1 + e^{-h})` between them. Tangents are rows, shape (..., features).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu, softplus

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["Layers", "LipschitzMLP", "evaluate", "push", "spectral_bound"]

_STEEPEST = 1.1
"""No slope of silu exceeds this, a little more than its steepest, 1.0998."""
_LOOSENESS = 0.01
"""How far, as a share, the bound of a spectral norm may lie above it."""


class Layers(NamedTuple):
    """A network with silu between its layers.

    Attributes:
        weights: Shape (outputs, inputs) each.
        biases: Shape (outputs,) each.
    """

    weights: list[Tensor]
    biases: list[Tensor]


class LipschitzMLP(nn.Module):
    r"""A perceptron with a Lipschitz constant below a bound, for the Euclidean norm.

    A matrix whose spectral norm exceeds the layer's share of the bound is scaled down to it. The activation is
    LipSwish, :math:`h / (1 + e^{-\beta h}) / 1.1` with a learned :math:`\beta`, whose slope still changes where it is
    steep, so that log-determinants have gradients. The last layer starts at zero.

    Args:
        features: Length of inputs and outputs.
        hidden: Widths of the hidden layers.
        lipschitz: The bound, between 0 and 1.

    Raises:
        OptionError: When a size is no positive integer, or the bound not between 0 and 1.

    References:
        Chen, Behrmann, Duvenaud and Jacobsen (2019), Residual Flows for Invertible Generative Modeling, section 3.3;
        Miyato, Kataoka, Koyama and Yoshida (2018), Spectral Normalization for Generative Adversarial Networks, section
        2.1.

    Example:
        >>> network = LipschitzMLP(2, (16,), lipschitz=0.5)
        >>> output, _ = evaluate(torch.ones(5, 2), network())
        >>> output.shape
        torch.Size([5, 2])
    """

    def __init__(self, features: int, hidden: Iterable[int], lipschitz: float) -> None:
        super().__init__()
        if not 0 < lipschitz < 1:
            raise OptionError(f"Residual: lipschitz={lipschitz}, expected between 0 and 1. Remedy: 0.9.")
        widths = check_sizes("Residual", "hidden", hidden)
        features = check_size("Residual", "features", features)
        self.layers = nn.ModuleList([nn.Linear(*sizes) for sizes in pairwise((features, *widths, features))])
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)
        self.steepness = nn.Parameter(torch.full((len(widths),), 0.5))
        self.bound = lipschitz ** (1 / len(self.layers))

    def forward(self) -> Layers:
        """The layers as they are, with the activations' factors in the matrices beside them."""
        weights = [self._scaled(layer.weight) for layer in self.layers]  # type: ignore[arg-type]
        biases: list[Tensor] = [layer.bias for layer in self.layers]  # type: ignore[misc]
        for number, steepness in enumerate(softplus(self.steepness).unbind()):
            weights[number], biases[number] = weights[number] * steepness, biases[number] * steepness
            weights[number + 1] = weights[number + 1] / (_STEEPEST * steepness)
        return Layers(weights, biases)

    def _scaled(self, weight: Tensor) -> Tensor:
        return weight * (self.bound / spectral_bound(weight).clamp(min=self.bound))


def spectral_bound(matrix: Tensor) -> Tensor:
    r"""A number that no singular value of a matrix exceeds, at most one percent above the largest.

    The Gram matrix is squared again and again. The Frobenius norm of a power exceeds its largest eigenvalue by at most
    the root of their count, of which the root of the power leaves little. The power iteration on a vector, by contrast,
    comes from below and remembers a vector; this holds for any matrix and depends on nothing else.

    Args:
        matrix: Shape (rows, columns).

    Returns:
        A scalar.

    References:
        Delattre, Barthélemy, Araujo and Allauzen (2023), Efficient Bound of Lipschitz Constant for Convolutional Layers
        by Gram Iteration, theorem 1.

    Example:
        >>> bound = spectral_bound(torch.diag(torch.tensor([3.0, -4.0, 0.0])))
        >>> bool((bound >= 4.0) & (bound < 4.04))
        True
    """
    rows, columns = matrix.shape
    gram = matrix @ matrix.mT if rows < columns else matrix.mT @ matrix
    squarings = max(0, math.ceil(math.log2(math.log(len(gram)) / (4 * math.log1p(_LOOSENESS))))) if len(gram) > 1 else 0
    log_size = torch.zeros((), dtype=matrix.dtype, device=matrix.device)
    for _ in range(squarings):
        size = torch.linalg.matrix_norm(gram).clamp(min=torch.finfo(matrix.dtype).tiny)
        gram = gram / size
        gram, log_size = gram @ gram, 2 * (log_size + size.log())
    last = torch.linalg.matrix_norm(gram).clamp(min=torch.finfo(matrix.dtype).tiny)
    return ((log_size + last.log()) / 2 ** (squarings + 1)).exp()


def evaluate(y: Tensor, layers: Layers) -> tuple[Tensor, list[Tensor]]:
    """The network's output, and the slopes of the activations on the way."""
    slopes = []
    for weight, bias in zip(layers.weights[:-1], layers.biases[:-1], strict=True):
        raw = linear(y, weight, bias)
        share = raw.sigmoid()
        slopes.append(share * (1 + raw * (1 - share)))
        y = silu(raw)
    return linear(y, layers.weights[-1], layers.biases[-1]), slopes


def push(tangent: Tensor, weights: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """The Jacobian where the activations have these slopes, times a tangent."""
    for weight, slope in zip(weights[:-1], slopes, strict=True):
        tangent = slope * (tangent @ weight.mT)
    return tangent @ weights[-1].mT
