"""Distributions that can be traced: without what reads the values of tensors in Python.

Convention of this module: distributions that a user made beforehand stay as they are; a trace sees copies.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import OneHotCategorical

__all__ = ["Unvalidated"]


class Unvalidated(Messenger):
    """Puts a copy in the place of each site's distribution, which does not validate and draws one-hot values untested.

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> prior = dist.Normal(torch.zeros(2), 1.0, validate_args=True).to_event(1)
        >>> with Unvalidated(), pyro.poutine.trace() as traced:
        ...     _ = pyro.sample("z", prior)
        >>> traced.trace.nodes["z"]["fn"].base_dist._validate_args, prior.base_dist._validate_args
        (False, True)
    """

    def _pyro_sample(self, msg: Message) -> None:
        msg["fn"] = _copied(msg["fn"])


def _copied(fn: Any) -> Any:
    copied = copy.copy(fn)
    if hasattr(fn, "base_dist"):
        copied.base_dist = _copied(fn.base_dist)
    copied._validate_args = False  # after the base, because Pyro's Independent hands it on
    if isinstance(fn, OneHotCategorical):
        copied.sample = partial(_draw_one_hot, fn)  # torch's own looks whether the classes are in range
    return copied


def _draw_one_hot(fn: OneHotCategorical, sample_shape: Any = ()) -> Tensor:
    """The same draws as the distribution's own."""
    index = fn._categorical.sample(torch.Size(sample_shape)).unsqueeze(-1)
    return torch.zeros_like(fn.probs.expand(index.shape[:-1] + fn.event_shape)).scatter(-1, index, 1.0)
