r"""Operator norms of linear and convolutional layers, and the Lipschitz bound of a network made of them.

Convention of this module: norms are Euclidean, the largest factor by which a layer lengthens a difference of two inputs
of a given shape, without batch dims. What a layer adds, its bias, has no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["exact_norm", "lipschitz_bound", "operator_norm"]

ONE_LIPSCHITZ = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.Softplus, nn.Identity, nn.Flatten, nn.Unflatten)
"""Layers that lengthen no difference; LeakyReLU and ELU where their slopes are at most one."""


def operator_norm(layer: nn.Module, event_shape: Sequence[int], steps: int = 100) -> Tensor:
    r"""The operator norm of a linear or convolutional layer by power iteration, differentiable in its weights.

    A vector is sent through the layer and back, by its transpose, which is the layer's vector-Jacobian product, so that
    padding and stride are what they are. The iteration comes from below and always starts at the same vector.

    Args:
        layer: An ``nn.Linear``, an ``nn.Conv2d`` or any other affine layer.
        event_shape: Shape of one input, without the batch.
        steps: Iterations; the error falls with the ratio of the two largest singular values to their power.

    Returns:
        A scalar.

    Raises:
        OptionError: When a size or the number of steps is no positive integer.

    References:
        Tsuzuku, Sato and Sugiyama (2018), Lipschitz-Margin Training, section 4.2 and algorithm 2; Miyato, Kataoka,
        Koyama and Yoshida (2018), Spectral Normalization for Generative Adversarial Networks, section 2.1.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
        >>> print(f"{operator_norm(layer, (2,)).item():.4f}")
        4.0000
    """
    shape = check_sizes("operator_norm", "event_shape", event_shape)
    check_size("operator_norm", "steps", steps)
    forward, backward = _linear_map(layer, shape)
    with torch.no_grad():
        vector = _start(layer, shape)
        for _ in range(steps):
            vector = _unit(backward(_unit(forward(vector))))
    return forward(vector).square().sum().sqrt()


def exact_norm(layer: nn.Module, event_shape: Sequence[int]) -> Tensor:
    """The operator norm by the singular values of the layer's whole matrix, for small layers and tests.

    Args:
        layer: As :func:`operator_norm` has it.
        event_shape: Shape of one input; the matrix has as many columns as it has entries.

    Raises:
        OptionError: When a size is no positive integer.

    Example:
        >>> layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 1.0)
        >>> print(f"{exact_norm(layer, (1, 8, 8)).item():.3f}")
        8.291
    """
    shape = check_sizes("exact_norm", "event_shape", event_shape)
    like = next(layer.parameters(), torch.zeros(()))
    columns = torch.eye(math.prod(shape), dtype=like.dtype, device=like.device).reshape(-1, *shape)
    matrix = (layer(columns) - layer(torch.zeros_like(columns))).flatten(1)
    found: Tensor = torch.linalg.matrix_norm(matrix, 2)
    return found


def lipschitz_bound(
    network: nn.Sequential,
    event_shape: Sequence[int],
    norm: Callable[[nn.Module, Sequence[int]], Tensor] = operator_norm,
) -> Tensor:
    r"""A number that no difference of outputs exceeds, as a multiple of that of the inputs.

    .. math:: \|f(x) - f(y)\| \le L \|x - y\|, \quad L = \prod_l L_l

    Of affine layers :math:`L_l` is the operator norm; of activations one; of pooling the root of how many windows an
    entry is in, for averages divided by the root of a window's size. A bound it is with :func:`exact_norm`; the power
    iteration comes from below, so that it serves to train.

    Args:
        network: Of affine layers, pooling, activations with slopes of at most one, dropout in evaluation, ``Flatten``,
            and other ``nn.Sequential``.
        event_shape: Shape of one input, without the batch.
        norm: From an affine layer and the shape of its input to its operator norm.

    Returns:
        A scalar, differentiable in the weights.

    Raises:
        OptionError: When a layer is none of these.

    References:
        Tsuzuku, Sato and Sugiyama (2018), Lipschitz-Margin Training, section 4 and appendix D.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> for parameter in network.parameters():
        ...     _ = nn.init.constant_(parameter, 1.0)
        >>> print(f"{lipschitz_bound(network, (2,)).item():.3f}")
        2.828
    """
    shape, bound = tuple(event_shape), torch.ones(())
    for layer in network:
        bound = bound * _bound_of(layer, shape, norm)
        with torch.no_grad():
            shape = tuple(layer(_start(network, shape).unsqueeze(0)).shape[1:])
    return bound


def _bound_of(
    layer: nn.Module, shape: tuple[int, ...], norm: Callable[[nn.Module, Sequence[int]], Tensor]
) -> Tensor | float:
    if isinstance(layer, nn.Sequential):
        return lipschitz_bound(layer, shape, norm)
    if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
        return norm(layer, shape)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        return _of_pooling(layer)
    slope = getattr(layer, "negative_slope", getattr(layer, "alpha", 0.0))
    dropped = isinstance(layer, nn.Dropout) and not layer.training
    if dropped or (isinstance(layer, ONE_LIPSCHITZ) and abs(slope) <= 1):
        return 1.0
    raise OptionError(
        f"lipschitz_bound: the bound of {layer} is not known. Remedy: linear and convolutional layers, pooling, and "
        f"{', '.join(kind.__name__ for kind in ONE_LIPSCHITZ)} in an nn.Sequential."
    )


def _of_pooling(layer: nn.MaxPool2d | nn.AvgPool2d) -> float:
    """The root of the largest number of windows that an entry is in, for averages over the root of their size."""
    sizes, strides = _pair(layer.kernel_size), _pair(layer.stride)
    windows = math.prod(math.ceil(size / stride) for size, stride in zip(sizes, strides, strict=True))
    if isinstance(layer, nn.MaxPool2d):
        dilated = _pair(layer.dilation) != (1, 1)
        return math.prod(sizes) ** 0.5 if dilated else windows**0.5
    partial = layer.ceil_mode or not layer.count_include_pad or layer.divisor_override is not None
    return windows**0.5 if partial else (windows / math.prod(sizes)) ** 0.5


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value, value)


def _linear_map(
    layer: nn.Module, shape: tuple[int, ...]
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """A layer without its bias, and its transpose, of single inputs and outputs."""

    def affine(x: Tensor) -> Tensor:
        found: Tensor = layer(x.unsqueeze(0)).squeeze(0)
        return found

    zero = torch.zeros_like(_start(layer, shape))
    offset = affine(zero)
    transposed = torch.func.vjp(affine, zero)[1]

    def backward(y: Tensor) -> Tensor:
        found: Tensor = transposed(y)[0]
        return found

    return lambda x: affine(x) - offset, backward


def _start(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """A vector that no singular vector of a layer is likely to be at right angles to, the same each time."""
    like = next(layer.parameters(), torch.zeros(()))
    numbers = torch.arange(1, math.prod(shape) + 1, dtype=like.dtype, device=like.device)
    return _unit((numbers * (math.sqrt(5) - 1) / 2).frac().sub(0.3).reshape(shape))


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt().clamp(min=torch.finfo(vector.dtype).tiny)
