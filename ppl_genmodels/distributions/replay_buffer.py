r"""Chains that go on from one step of training to the next.

Convention of this module: where the chains are is a buffer, changed in place, so that a traced step sees it and a
checkpoint keeps it. It changes only where a gradient is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["ReplayBuffer"]


class ReplayBuffer(nn.Module):
    r"""Where the chains of an energy are; some begin anew each time.

    Args:
        event_shape: Shape of a value.
        chains: How many.
        restart: Share of the chains taken that begin anew, at draws of the energy's start, as all do at first.

    Raises:
        OptionError: When a size is no positive integer, or the share is not between 0 and 1.

    References:
        Tieleman (2008), Training Restricted Boltzmann Machines Using Approximations to the Likelihood Gradient, for
        chains that go on; Du and Mordatch (2019), Implicit Generation and Modeling with Energy-Based Models, section
        3.2, for a buffer of more chains than a batch and for beginning anew.

    Example:
        >>> import pyro.distributions as dist
        >>> buffer = ReplayBuffer((2,), chains=100)
        >>> places, values = buffer.take(10, dist.Normal(torch.zeros(2), 1.0).to_event(1))
        >>> buffer.keep(places, values)
        >>> buffer.begun.sum()
        tensor(10)
    """

    values: Tensor
    begun: Tensor

    def __init__(self, event_shape: Sequence[int], chains: int = 1000, restart: float = 0.05) -> None:
        super().__init__()
        shape = check_sizes("ReplayBuffer", "event_shape", event_shape)
        count = check_size("ReplayBuffer", "chains", chains)
        if not 0 <= restart <= 1:
            raise OptionError(f"ReplayBuffer: restart={restart}, expected a share between 0 and 1. Remedy: 0.05.")
        self.restart = restart
        self.register_buffer("values", torch.zeros(count, *shape))
        self.register_buffer("begun", torch.zeros(count, dtype=torch.bool))

    def take(self, count: int, start: Any) -> tuple[Tensor, Tensor]:
        r"""Some chains.

        Args:
            count: How many; where there are fewer, several begin at the same value.
            start: The distribution that some begin anew from.

        Returns:
            Their places in the buffer, shape (count,), and their values, (count, \*event).
        """
        device = self.values.device
        first = torch.randint(len(self.values), (1,), device=device)
        places = (first + torch.arange(count, device=device)) % len(self.values)
        go_on = self.begun[places] & (torch.rand(count, device=device) >= self.restart)
        go_on = go_on.reshape(count, *(1 for _ in self.values.shape[1:]))
        return places, torch.where(go_on, self.values[places], start.sample((count,)))

    def keep(self, places: Tensor, values: Tensor) -> None:
        r"""Remembers where chains have got to, where a gradient is taken.

        Args:
            places: As :meth:`take` gave them.
            values: Shape (count, \*event).
        """
        if torch.is_grad_enabled():
            different = len(self.values)
            with torch.no_grad():
                self.values.index_copy_(0, places[:different], values[:different].detach())
                self.begun.index_fill_(0, places[:different], True)
