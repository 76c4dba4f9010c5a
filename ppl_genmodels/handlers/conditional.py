r"""Relaxed draws given the discrete ones: :math:`z` with :math:`b = H(z)`, drawn from :math:`p(z \mid b)`.

Convention of this module: :math:`z` is unbounded, logits plus logistic noise for a bit and plus Gumbel noise for
classes; the bit is whether it is positive, the class where it is largest. Logits of classes are normalised.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as torch_dist
from torch import Tensor
from torch.distributions.utils import clamp_probs
from torch.nn.functional import logsigmoid, softplus

__all__ = ["conditional_draw", "log_mass", "unconditional"]


def conditional_draw(fn: Any, logits: Tensor, value: Tensor) -> Tensor:
    r"""A draw of :math:`z` given the discrete value, with its gradient in the logits, the noise and the value held.

    Args:
        fn: A Bernoulli, Categorical or OneHotCategorical.
        logits: Its logits, shape (\*batch, \*event) or (\*batch, classes).
        value: A draw of it.

    References:
        Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), REBAR, appendix C.

    Example:
        >>> fn = torch_dist.Bernoulli(torch.tensor([0.2, 0.7]))
        >>> conditional_draw(fn, fn.logits, torch.tensor([1.0, 0.0])) > 0
        tensor([ True, False])
    """
    logits = logits.expand(torch.broadcast_shapes(logits.shape, _shape(fn, logits, value)))
    uniform = clamp_probs(torch.rand(logits.shape, dtype=logits.dtype, device=logits.device))
    if isinstance(fn, torch_dist.Bernoulli):
        odds = uniform.logit()
        return torch.where(value > 0.5, softplus(odds - logsigmoid(-logits)), -softplus(odds - logsigmoid(logits)))
    chosen = _chosen(fn, value)
    waiting = (-uniform.log()).log()
    first = waiting.gather(-1, chosen)
    others = -torch.logaddexp(waiting - logits, first)
    return torch.zeros_like(logits).scatter(-1, chosen, 1.0) * (-first - others) + others


def unconditional(logits: Tensor, z: Tensor) -> Tensor:
    """The same draw with the gradient that it has in the logits when the noise alone is held.

    Example:
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> torch.autograd.grad(unconditional(logits, torch.ones(2)).sum(), logits)[0]
        tensor([1., 1.])
    """
    return logits + (z - logits).detach()


def log_mass(fn: Any, logits: Tensor, value: Tensor) -> Tensor:
    r"""The log-probability of each element as a function of the logits, shape (\*batch).

    Example:
        >>> fn = torch_dist.Categorical(torch.tensor([0.2, 0.8]))
        >>> log_mass(fn, fn.logits, torch.tensor(1)).exp()
        tensor(0.8000)
    """
    if isinstance(fn, torch_dist.Bernoulli):
        return value * logits + logsigmoid(-logits)
    normalised = logits.log_softmax(-1)
    chosen = _chosen(fn, value)
    return normalised.expand(*chosen.shape[:-1], normalised.shape[-1]).gather(-1, chosen).squeeze(-1)


def _chosen(fn: Any, value: Tensor) -> Tensor:
    """The index of each class, with a last dim of size 1."""
    return value.long().unsqueeze(-1) if isinstance(fn, torch_dist.Categorical) else value.argmax(-1, keepdim=True)


def _shape(fn: Any, logits: Tensor, value: Tensor) -> torch.Size:
    return value.shape + logits.shape[-1:] if isinstance(fn, torch_dist.Categorical) else value.shape
