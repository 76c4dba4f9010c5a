"""Distributions without argument validation, which reads values in Python and so cannot be traced.

Convention of this module: distributions that a user made beforehand keep their own validation; a trace sees copies.
"""

from __future__ import annotations

import copy
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message

__all__ = ["Unvalidated"]


class Unvalidated(Messenger):
    """Puts a copy that does not validate in the place of each site's distribution.

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
    return copied
