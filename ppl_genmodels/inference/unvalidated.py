"""Distributions that can be traced: without what reads the values of tensors in Python.

Convention of this module: distributions that a user made beforehand stay as they are; a trace sees copies.
"""

from __future__ import annotations

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message

from ppl_genmodels.distributions.unvalidated import unvalidated

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
        msg["fn"] = unvalidated(msg["fn"])
