r"""How far an input may be moved before a classifier's decision can change.

Convention of this module: scores have shape (\*batch, classes), and the decision is the class of the highest; distances
are Euclidean, in the units of the classifier's input.
"""

from __future__ import annotations

import math

from torch import Tensor

from ppl_genmodels.errors import OptionError

__all__ = ["certified_radius"]


def certified_radius(scores: Tensor, lipschitz: Tensor | float) -> Tensor:
    r"""Within this distance of the input no other class has the highest score.

    .. math:: r = \frac{\max_k s_k - \max_{j \ne k} s_j}{\sqrt 2 \, L}

    It holds where :math:`L` is a bound, as of :func:`~ppl_genmodels.networks.lipschitz_bound` with
    :func:`~ppl_genmodels.networks.exact_norm`.

    Args:
        scores: Of each class, such as logits, shape (\*batch, classes).
        lipschitz: A Lipschitz bound of the scores together, as a function of the input.

    Returns:
        Shape (\*batch).

    Raises:
        OptionError: When there are fewer than two classes, or the bound is not positive.

    References:
        Tsuzuku, Sato and Sugiyama (2018), Lipschitz-Margin Training: Scalable Certification of Perturbation Invariance
        for Deep Neural Networks, proposition 1.

    Example:
        >>> import torch
        >>> certified_radius(torch.tensor([[3.0, 1.0, 0.0]]), lipschitz=2.0)
        tensor([0.7071])
    """
    if scores.dim() == 0 or scores.shape[-1] < 2:
        raise OptionError(
            f"certified_radius: scores have shape {tuple(scores.shape)}, expected (..., classes) with two classes or "
            f"more. Remedy: for one score s of two classes, torch.stack([s, -s], -1) / 2 ** 0.5."
        )
    if not lipschitz > 0:
        raise OptionError(f"certified_radius: lipschitz={float(lipschitz)}, expected a positive number.")
    highest, second = scores.topk(2).values.unbind(-1)
    return (highest - second) / (math.sqrt(2) * lipschitz)
