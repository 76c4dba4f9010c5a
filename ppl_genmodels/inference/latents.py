"""The latent values of some rows, as one run or several have drawn them.

Convention of this module: values keep the batch dims of the run that drew them, particles leftmost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FirstBlock", "Latents"]


@dataclass(frozen=True)
class Latents:
    """Latent values of some rows.

    Attributes:
        values: By site; shape (draws, *batch, *event) with the batch dims of a run.
        axes: For each local site the axis of its rows.
        local_log_q: Log-density of the local sites in nats, shape (draws, rows).
        global_log_q: Log-density of the global sites in nats, shape (draws,).
    """

    values: dict[str, Tensor]
    axes: dict[str, int]
    local_log_q: Tensor
    global_log_q: Tensor

    def cut(self, start: int, stop: int) -> Latents:
        """Some of the rows."""
        count = stop - start
        values = {
            name: value.narrow(self.axes[name], start, count) if name in self.axes else value
            for name, value in self.values.items()
        }
        local = self.local_log_q[:, start:stop]
        return Latents(values, self.axes, local, self.global_log_q)

    @staticmethod
    def join(parts: list[Latents]) -> Latents:
        """Rows of several parts, one after another."""
        first = parts[0]
        values = {
            name: torch.cat([part.values[name] for part in parts], first.axes[name]) if name in first.axes else value
            for name, value in first.values.items()
        }
        local = torch.cat([part.local_log_q for part in parts], 1)
        return Latents(values, first.axes, local, first.global_log_q)


@dataclass(frozen=True)
class FirstBlock:
    """What the first block has drawn.

    Attributes:
        latents: Its values.
        globals: The values of the guide's global sites, auxiliary ones too.
        all_global: Whether the guide has no site for each row, so that the other blocks draw nothing.
    """

    latents: Latents
    globals: dict[str, Tensor]
    all_global: bool

    def shared(self, start: int, stop: int) -> Latents | None:
        """What another block has when it draws nothing of its own."""
        if not self.all_global:
            return None
        nothing = self.latents.local_log_q.new_zeros(len(self.latents.local_log_q), stop - start)
        return Latents(self.latents.values, {}, nothing, self.latents.global_log_q)
