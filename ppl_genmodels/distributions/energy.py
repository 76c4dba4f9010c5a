r"""Distributions given by an energy: any network that gives one number for a value.

Convention of this module: :math:`p(x) = e^{-E(x)} / Z`. The normalizer is not known from the energy: ``log_prob``
subtracts what is stored as :math:`\log Z`, and is a log-density only when that has been estimated or learned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_genmodels.distributions.langevin import check_step_size, langevin
from ppl_genmodels.distributions.replay_buffer import ReplayBuffer
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["Energy"]


class Energy(TorchDistribution):
    r"""The distribution of density proportional to :math:`e^{-E(x)}`; serves at any site.

    Draws are the ends of Metropolis-adjusted Langevin chains that begin at draws of ``start``: the longer they are, the
    nearer to the distribution. Parameters are fitted by :func:`~ppl_genmodels.objectives.contrastive_divergence`,
    :func:`~ppl_genmodels.objectives.score_matching` or :func:`~ppl_genmodels.objectives.noise_contrastive`; not by
    ``elbo()`` or ``log_lik()``, whose gradient leaves the normalizer out and so lowers energies without end.

    Args:
        network: From values, (\*batch, \*event), to energies in nats, (\*batch) or (\*batch, 1).
        event_shape: Shape of one value.
        log_normalizer: :math:`\log Z` in nats: a number, a parameter that is learned, or a buffer that an estimate by
            :func:`~ppl_genmodels.inference.annealed_importance` is put into; with 0 densities are up to a factor.
        start: The distribution of where chains begin, of this event shape and without batch dims; by default standard
            normal, of the dtype and on the device of the network's first parameter.
        steps: Of the chains that draws are the ends of.
        step_size: Of the chains, in squared units of the values; a tensor for sizes of their own in each coordinate.
        chains: Chains that go on through training, for ``contrastive_divergence(persistent=True)``; held by the module
            that holds the network.

    Raises:
        OptionError: When ``steps`` or a size of the event is no positive integer, the step's size is not positive, or
            the start has another shape.

    References:
        LeCun and others (2006), A Tutorial on Energy-Based Learning, section 1.3; Du and Mordatch (2019), Implicit
        Generation and Modeling with Energy-Based Models, equations 1 and 2.

    Example:
        >>> from ppl_genmodels.networks import MLP
        >>> energy = Energy(MLP(2, 1, hidden=(16,)), (2,), steps=5)
        >>> drawn = energy.sample((7,))
        >>> energy.log_prob(drawn).shape, energy.score(drawn).shape
        (torch.Size([7]), torch.Size([7, 2]))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    has_rsample = False

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        event_shape: Any,
        log_normalizer: float | Tensor = 0.0,
        start: Any = None,
        steps: int = 100,
        step_size: float | Tensor = 0.1,
        chains: ReplayBuffer | None = None,
        validate_args: bool | None = None,
    ) -> None:
        shape = torch.Size(check_sizes("Energy", "event_shape", event_shape))
        self.network, self.log_normalizer, self.chains = network, log_normalizer, chains
        self.start = _standard(network, shape) if start is None else start
        self.steps = check_size("Energy", "steps", steps)
        self.step_size = check_step_size("Energy", step_size)
        if self.start.event_shape != shape or self.start.batch_shape:
            raise OptionError(
                f"Energy: start has batch shape {tuple(self.start.batch_shape)} and event shape "
                f"{tuple(self.start.event_shape)}, expected () and {tuple(shape)}. Remedy: start.to_event()."
            )
        super().__init__(torch.Size(), shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """All values."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Energy:
        """The same energy with another batch shape."""
        new = self._get_checked_instance(Energy, _instance)
        for name in ("network", "log_normalizer", "start", "steps", "step_size", "chains"):
            setattr(new, name, getattr(self, name))
        TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_density(self, value: Tensor) -> Tensor:
        r"""Minus the energy, shape (\*batch) for values of shape (\*batch, \*event).

        Raises:
            ProgramError: When the network does not give one energy for each value.
        """
        energy, batch = self.network(value), value.shape[: value.dim() - len(self.event_shape)]
        if energy.shape == (*batch, 1):
            return -energy.squeeze(-1)
        if energy.shape == batch:
            return -energy
        raise ProgramError(
            f"Energy: the network gives {tuple(energy.shape)} for values of shape {tuple(value.shape)}, expected "
            f"{tuple(batch)}, one energy for each. Remedy: a network of one output, or a sum over its outputs."
        )

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Minus the energy and what is stored as the log of its normalizer, shape (\*sample, \*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        found = self.log_density(value) - self.log_normalizer
        return found.expand(torch.broadcast_shapes(found.shape, self.batch_shape))

    def score(self, value: Tensor) -> Tensor:
        """The gradient of the log-density in the value, of its shape, with gradient in the parameters."""
        density, pull = torch.func.vjp(self.log_density, value)  # type: ignore[misc]
        return pull(torch.ones_like(density))[0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""The ends of chains, shape (\*sample, \*batch, \*event)."""
        begun = self.start.sample(torch.Size(sample_shape) + self.batch_shape)
        return langevin(self.log_density, begun, self.steps, self.step_size)


def _standard(network: Any, shape: torch.Size) -> Any:
    parameters = network.parameters() if isinstance(network, nn.Module) else iter(())
    like = next(parameters, torch.zeros(()))
    return dist.Normal(like.new_zeros(shape), like.new_ones(shape)).to_event(len(shape))
