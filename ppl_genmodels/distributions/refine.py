r"""Samples moved along a critic's slope, after training.

Convention of this module: a critic scores values high where it takes them for data, and samples go uphill.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["refine"]


def refine(samples: Tensor, critic: Callable[[Tensor], Tensor], steps: int = 10, step_size: float = 0.1) -> Tensor:
    r"""Gradient layers: samples moved step by step along the functional gradient that a critic gives.

    .. math:: x \leftarrow x + \eta \, \nabla_x D(x)

    Among all maps near the identity, that is the one which raises the mean score of the samples fastest. A critic
    knows samples from data where it was trained, at samples as they were: after a few steps train it again on those
    that have been moved.

    Args:
        samples: Shape (rows, \*event).
        critic: From values to scores, shape (rows) or (rows, 1).
        steps: Layers.
        step_size: :math:`\eta`.

    Returns:
        The moved samples, without a gradient.

    Raises:
        OptionError: When the steps are no positive integer, or the step size is not positive.

    References:
        Nitanda and Suzuki (2018), Gradient Layer: Enhancing the Convergence of Adversarial Training for Generative
        Models, section 4.

    Example:
        >>> refine(torch.zeros(2, 1), lambda x: 3 * x, steps=2, step_size=0.5)
        tensor([[3.],
                [3.]])
    """
    check_size("refine", "steps", steps)
    if not step_size > 0:
        raise OptionError(f"refine: step_size={step_size}, expected a positive number. Remedy: 0.1.")
    moved = samples.detach()
    for _ in range(steps):
        with torch.enable_grad():
            points = moved.clone().requires_grad_()
            (slope,) = torch.autograd.grad(critic(points).sum(), points)
        moved = moved + step_size * slope
    return moved
