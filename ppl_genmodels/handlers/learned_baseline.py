"""A baseline that is learned: what a draw is expected to cost, given the datum.

Convention of this module: the network sees the data alone, never the draw, so that its baseline leaves the gradient
unbiased.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import Site
from ppl_genmodels.handlers.running_mean import RunningMean
from ppl_genmodels.handlers.site_handler import module_key

__all__ = ["LearnedBaseline"]


class LearnedBaseline(nn.Module):
    """A running mean, and for each site a network for what each datum's cost differs from it.

    Args:
        network: From the data, flattened, shape (data, features), to nats, shape (data, 1) or (data,). Each site has a
            copy of it, made when the site is first seen.

    References:
        Mnih and Gregor (2014), Neural Variational Inference and Learning in Belief Networks.

    Example:
        >>> LearnedBaseline(nn.Linear(4, 1)).running.decay
        0.9
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.running, self.networks = RunningMean(), nn.ModuleDict()
        self._first = (network,)  # no module of this one, as it is not trained itself

    def add(self, name: str, device: torch.device | None = None) -> None:
        """Makes room and a network for a site, unless there are."""
        self.running.add(name, device)
        if module_key(name) not in self.networks:
            self.networks[module_key(name)] = copy.deepcopy(self._first[0]).to(device)

    def forward(self, site: Site) -> Tensor:
        """The network's part of the baseline, in the layout and the scale of costs, with its gradient.

        Raises:
            ProgramError: When the network does not take the data, or does not give one number for each datum.
        """
        inputs = site.inputs
        try:
            nats: Tensor = self.networks[module_key(site.name)](inputs)
        except RuntimeError as error:
            raise ProgramError(
                f"site '{site.name}': its learned baseline does not take the data, which are {tuple(inputs.shape)} "
                f"when flattened: {error}. Remedy: a network of {inputs.shape[-1]} inputs and 1 output."
            ) from error
        if nats.shape not in ((len(inputs), 1), (len(inputs),)):
            raise ProgramError(
                f"site '{site.name}': its learned baseline gives {tuple(nats.shape)}, expected ({len(inputs)}, 1), one "
                f"number for each datum. Remedy: a network of {inputs.shape[-1]} inputs and 1 output."
            )
        return site.per_datum(nats.squeeze(-1) if nats.dim() > 1 else nats)

    def fit_of(self, left: Tensor) -> Tensor:
        """Minus half the mean square of what a baseline has left of the costs, in nats of one datum."""
        data = left[0].numel()
        return -0.5 * (left * data).square().mean()
