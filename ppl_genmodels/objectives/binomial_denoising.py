r"""The denoising objective of a diffusion of bits: its evidence bound estimated at one random step for each datum.

Convention of this module: step i leads from time :math:`i / T` to :math:`(i - 1) / T`; the first step is the one that
ends at the data.
"""

from __future__ import annotations

from functools import partial

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.networks import BitDenoiser
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.noise_times import even
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term

__all__ = ["binomial_denoising"]


def binomial_denoising(steps: int) -> Objective:
    r"""The evidence bound of a diffusion of bits, in nats, at one step of its chain for each datum.

    .. math:: K = T \, E_{i, z_i} \begin{cases} \log p(x \mid z_1) & i = 1 \\
        -D[q(z_{i-1} \mid z_i, x) \| p(z_{i-1} \mid z_i)] & i > 1 \end{cases}

    One evaluation of the network, whatever the number of steps. Its mean is that of ``elbo()`` on the chain of as many
    steps; a program's own chain may have fewer. The steps of a run are spread evenly from one random start. The model
    itself is not run: handlers around it have no say in this objective.

    Reduction: summed over a datum's bits, averaged over particles and data.

    Args:
        steps: :math:`T`.

    Raises:
        OptionError: When ``steps`` is no positive integer.
        ProgramError: When a run's program has no :class:`~ppl_genmodels.networks.BitDenoiser`, or more than one, or its
            data are no single tensor.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics, equation 14.

    Example:
        >>> print(binomial_denoising(steps=1000))
        -E[w KL[q(z_s|z_t,x) || p(z_s|z_t)]]
    """
    check_size("binomial_denoising", "steps", steps)
    formula = "-E[w KL[q(z_s|z_t,x) || p(z_s|z_t)]]"
    latex = r"-\mathbb{E}[w_t \mathrm{KL}[q(z_s \mid z_t, x) \,\|\, p(z_s \mid z_t)]]"
    return Objective.of(Term("binomial_denoising", formula, latex, partial(_values, steps)))


def _values(steps: int, run: Run) -> Tensor:
    denoiser, data = _denoiser(run), _data(run)
    data = data.expand(run.num_particles, *data.shape)
    return steps * _of_step(denoiser, data, _numbers(steps, data, denoiser.event_dim), steps)


def _denoiser(run: Run) -> BitDenoiser:
    found = [module for module in run.program.modules() if isinstance(module, BitDenoiser)]
    if len(found) != 1:
        raise ProgramError(
            f"binomial_denoising: the program has {len(found) or 'no'} denoisers of bits, expected one. Remedy: "
            f"models.BinomialDiffusion, or elbo()."
        )
    return found[0]


def _data(run: Run) -> Tensor:
    found = [value for value in (*run.args, *run.kwargs.values()) if isinstance(value, Tensor)]
    if len(found) != 1:
        raise ProgramError(
            f"binomial_denoising: got {len(found) or 'no'} tensors as data, expected one. Remedy: x=data."
        )
    return found[0]


def _numbers(steps: int, data: Tensor, event_dim: int) -> Tensor:
    """The number of a step for each datum, evenly spread, shape (particles, data)."""
    places = even(data, data.shape[: data.dim() - event_dim])
    return (places * steps).floor().clamp(max=steps - 1) + 1


def _of_step(denoiser: BitDenoiser, data: Tensor, number: Tensor, steps: int) -> Tensor:
    """What each datum's step contributes to the bound, in nats, shape (particles, data)."""
    time = number / steps
    earlier = ((number - 1) / steps).clamp(min=0.5 / steps)  # of the first step it is not used
    noisy = denoiser.noisy(data, time).sigmoid().bernoulli()
    found, aim = denoiser(noisy, time), denoiser.posterior(noisy, data, time, earlier)
    divergence = kl_divergence(_bits(denoiser, aim), _bits(denoiser, denoiser.step(noisy, found, time, earlier)))
    decoded = _bits(denoiser, found).log_prob(data)
    return torch.where(number == 1, decoded, -divergence)


def _bits(denoiser: BitDenoiser, log_odds: Tensor) -> dist.TorchDistribution:
    return dist.Bernoulli(logits=log_odds).to_event(denoiser.event_dim)
