r"""The running mean of what the draws of sites cost: a baseline that remembers earlier steps.

Convention of this module: the mean is read before this step's costs enter it, so that it does not depend on the draws
that it is a baseline for. It is a buffer, changed in place, so that a traced step sees it and a checkpoint keeps it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_genmodels.handlers.site_handler import module_key

__all__ = ["RunningMean"]


class RunningMean(nn.Module):
    r"""For each site the exponential moving average of some numbers, corrected for its start at zero.

    .. math:: m_t = \frac{\sum_{s \le t} \lambda^{t - s} c_s}{\sum_{s \le t} \lambda^{t - s}}

    Before anything was remembered it is zero.

    Args:
        decay: :math:`\lambda`, between 0 and 1, for each step.
        count: How many numbers there are for each site.

    References:
        Kingma and Ba (2015), Adam, section 3, for the correction.

    Example:
        >>> mean = RunningMean()
        >>> mean.add("z")
        >>> mean("z", torch.tensor([2.0, 4.0])), mean("z", torch.tensor([0.0, 0.0]))
        (tensor([0., 0.]), tensor([2., 4.]))
    """

    def __init__(self, decay: float = 0.9, count: int = 2) -> None:
        super().__init__()
        self.decay, self.count = decay, count

    def add(self, name: str, device: torch.device | None = None) -> None:
        """Makes room for a site, unless there is."""
        if not hasattr(self, _key(name)):
            self.register_buffer(_key(name), torch.zeros(self.count + 1, device=device))

    def forward(self, name: str, values: Tensor) -> Tensor:
        """The mean of the earlier values; these are remembered for the next step.

        Args:
            name: The site, which has been added.
            values: This step's, shape (count,); not remembered where no gradient is taken.
        """
        memory: Tensor = getattr(self, _key(name))
        earlier = memory[:-1] / torch.where(memory[-1:] > 0, memory[-1:], torch.ones_like(memory[-1:]))
        if torch.is_grad_enabled():
            with torch.no_grad():
                memory.lerp_(torch.cat([values.detach(), torch.ones_like(values[:1])]).to(memory), 1 - self.decay)
        return earlier


def _key(name: str) -> str:
    """What a site's buffer is called; names of buffers have no dots."""
    return "of_" + module_key(name)
