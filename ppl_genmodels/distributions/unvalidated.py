"""Distributions that do not look at their values, so that what they price can be traced.

Convention of this module: the distribution that was given stays as it is.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical

__all__ = ["unvalidated"]


def unvalidated(distribution: Any) -> Any:
    """A copy without argument validation, which reads the values of tensors in Python.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> normal = dist.Normal(torch.zeros(2), 1.0, validate_args=True).to_event(1)
        >>> unvalidated(normal).base_dist._validate_args, normal.base_dist._validate_args
        (False, True)
    """
    copied = copy.copy(distribution)
    if hasattr(distribution, "base_dist"):
        copied.base_dist = unvalidated(distribution.base_dist)
    copied._validate_args = False  # after the base, because Pyro's Independent hands it on
    if isinstance(distribution, OneHotCategorical):
        copied.sample = partial(_draw_one_hot, distribution)  # torch's own looks whether the classes are in range
    return copied


def _draw_one_hot(fn: OneHotCategorical, sample_shape: Any = ()) -> Tensor:
    """The same draws as the distribution's own."""
    index = fn._categorical.sample(torch.Size(sample_shape)).unsqueeze(-1)
    return torch.zeros_like(fn.probs.expand(index.shape[:-1] + fn.event_shape)).scatter(-1, index, 1.0)
