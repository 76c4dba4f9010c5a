r"""Layers of flow posteriors: what carries the noise of a guide, before it is moved onto a site's place and support.

Convention of this module: a builder is called with the number of features and that of the context, 0 for none, and
returns bijections from noise on; they start as the identity but for the order of the features. All sample in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms import Affine, Autoregressive, Coupling, Permute, Planar, Spline

__all__ = ["Layers", "inverse_autoregressive", "planar", "spline"]

Layers = Callable[[int, int], Sequence[nn.Module | Any]]
"""Called with the numbers of features and of context features, gives bijections from noise on."""


def planar(length: int = 8, hidden: Sequence[int] = (32,)) -> Layers:
    """Planar layers: cheap, for posteriors that are a little bent in few dimensions.

    Args:
        length: How many layers.
        hidden: Widths of the network that reads a context; without a context there is none.

    Raises:
        OptionError: When a size is no positive integer.

    References:
        Rezende and Mohamed (2015), Variational Inference with Normalizing Flows, section 4.1.

    Example:
        >>> len(planar(4)(3, 0))
        4
    """
    count, widths = check_size("planar", "length", length), check_sizes("planar", "hidden", hidden)
    return lambda features, context: [Planar(features, widths, context) for _ in range(count)]


def inverse_autoregressive(length: int = 3, hidden: Sequence[int] = (64,)) -> Layers:
    """Affine inverse autoregressive layers, the order of the features reversed between.

    The density of a value that was not drawn from the guide costs as many passes as there are features.

    Args:
        length: How many layers.
        hidden: Widths of each layer's network.

    Raises:
        OptionError: When a size is no positive integer.

    References:
        Kingma and others (2016), Improved Variational Inference with Inverse Autoregressive Flow, section 4.

    Example:
        >>> [type(each).__name__ for each in inverse_autoregressive(2)(3, 0)]
        ['Autoregressive', 'Permute', 'Autoregressive']
    """
    count = check_size("inverse_autoregressive", "length", length)
    widths = check_sizes("inverse_autoregressive", "hidden", hidden)

    def build(features: int, context: int) -> list[nn.Module]:
        found: list[nn.Module] = []
        for number in range(count):
            found += [Permute(list(range(features))[::-1])] if number and features > 1 else []
            found.append(Autoregressive(features, widths, Affine(), "sampling", context))
        return found

    return build


def spline(length: int = 3, hidden: Sequence[int] = (64,), bins: int = 8) -> Layers:
    """Pairs of rational-quadratic couplings; for a single feature, splines.

    Args:
        length: How many pairs, one layer of each for one half of the features.
        hidden: Widths of each layer's network.
        bins: Pieces of each spline, between -5 and 5 in units of the guide's scale.

    Raises:
        OptionError: When a size is no positive integer.

    References:
        Durkan, Bekasov, Murray and Papamakarios (2019), Neural Spline Flows, section 3.

    Example:
        >>> len(spline(2)(3, 0)), len(spline(2)(1, 0))
        (4, 2)
    """
    count, pieces = check_size("spline", "length", length), check_size("spline", "bins", bins)
    widths = check_sizes("spline", "hidden", hidden)

    def build(features: int, context: int) -> list[nn.Module]:
        found: list[nn.Module] = []
        for _ in range(count):
            if features == 1:
                found.append(Autoregressive(1, widths, Spline(pieces), "sampling", context))
            else:
                found += [Coupling(features, widths, Spline(pieces), swap, context) for swap in (False, True)]
        return found

    return build
