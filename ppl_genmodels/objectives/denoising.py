r"""The denoising objective of a diffusion: its evidence bound estimated at one random time for each datum.

Convention of this module: time runs from 0, data, to 1, noise; the squared error is that of the noise,
:math:`\|\epsilon - \hat\epsilon\|^2`, summed over an event, and :math:`\lambda` is the log signal-to-noise ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.continuous_sites import continuous_layers, continuous_sites, to_site
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node
from ppl_genmodels.transforms.probability_flow import ProbabilityFlow

__all__ = ["denoising"]

Weight = Literal["elbo", "simple", "snr", "min_snr", "edm"]
Times = Literal["uniform", "log_snr"]


def denoising(*sites: str, weight: Weight = "elbo", steps: int | None = None, times: Times = "uniform") -> Objective:
    r"""How well a diffusion's denoiser tells data from noise, at one time for each datum.

    - ``"elbo"`` is the evidence bound in nats, of the chain of so many steps or of continuous time,
      :math:`-\tfrac12 E[-\lambda'_t \|\epsilon - \hat\epsilon\|^2]` and what does not depend on the denoiser;
    - ``"simple"`` is minus the mean squared error of the noise;
    - ``"snr"``, ``"min_snr"`` and ``"edm"`` weigh it by :math:`\max(1, e^{-\lambda})`, by
      :math:`\min(1, 5 e^{-\lambda})`, and by :math:`1 + e^{-\lambda} / s^2` with times of log-normal noise, where
      :math:`s` is the scale of the data.

    The times of a run are spread evenly over [0, 1] from one random start; ``times="log_snr"`` spreads the log
    signal-to-noise ratio evenly instead, which serves the bound with less variance. Values are taken as data: no
    gradient passes to a guide.

    Reduction: summed over a datum's sites and inner plates, averaged over particles and data; all but the bound are
    means over an event's numbers.

    Args:
        *sites: Names of sites of the model whose distribution is a :class:`~ppl_genmodels.distributions.Diffusion`;
            none means all of them.
        weight: One of the five.
        steps: Of the chain whose bound it is; None for continuous time. For ``"elbo"`` alone.
        times: How times are spread; not for ``"edm"``, nor for chains.

    Raises:
        OptionError: When an option is none of those named, or not for this weight.
        UnknownNameError: When a run has no site of that name.
        ProgramError: When a site is no diffusion.

    References:
        Kingma, Salimans, Poole and Ho (2021), Variational Diffusion Models, equations 13 to 18 and appendix I.1; Ho,
        Jain and Abbeel (2020), equation 14; Salimans and Ho (2022), section 4, for snr; Hang and others (2023),
        Efficient Diffusion Training via Min-SNR Weighting Strategy; Karras and others (2022), table 1.

    Example:
        >>> print(denoising("x", weight="simple"))
        -E[w |eps - eps(x_t,t)|²]
    """
    if weight not in get_args(Weight):
        raise OptionError(f"denoising: weight={weight!r}, expected one of {', '.join(map(repr, get_args(Weight)))}.")
    if times not in get_args(Times):
        raise OptionError(f"denoising: times={times!r}, expected 'uniform' or 'log_snr'.")
    if steps is not None:
        check_size("denoising", "steps", steps)
        if weight != "elbo" or times != "uniform":
            raise OptionError("denoising: steps are those of the chain whose bound is taken. Remedy: weight='elbo'.")
    shown = ",".join(sites) or "x"
    formula = f"-E[w |eps - eps({shown}_t,t)|²]"
    latex = r"-\mathbb{E}[w_t \|\epsilon - \hat\epsilon(x_t, t)\|^2]"
    values = partial(_values, sites, weight, steps, times)
    return Objective.of(Term(named("denoising", sites), formula, latex, values))


def _values(sites: tuple[str, ...], weight: Weight, steps: int | None, times: Times, run: Run) -> Tensor:
    where = called("denoising", sites)
    found = continuous_sites(run, sites, where, with_guide=False)
    return run.total((node, to_site(node, _of_site(node, flow, weight, steps, times, where))) for node, flow in found)


def _of_site(node: Node, flow: Any, weight: Weight, steps: int | None, times: Times, where: str) -> Tensor:
    _, layer, context = continuous_layers(flow)[0]
    if not isinstance(layer, ProbabilityFlow):
        raise ProgramError(
            f"{where}: the flow of site '{node['name']}' is no diffusion. Remedy: distributions.Diffusion(flow) for "
            f"the site, or objectives.flow_matching() for this one."
        )
    data = node["value"].detach().expand(flow.batch_shape + flow.event_shape)
    denoise = partial(layer.denoiser, context=context)
    batch = flow.batch_shape
    if weight == "elbo":
        lost = _chain(layer, denoise, data, batch, steps) if steps else _continuous(layer, denoise, data, batch, times)
        return bound_at_ends(layer, data) - lost
    spread = _log_normal(layer, data, batch) if weight == "edm" else _times(layer, data, batch, times)
    error, log_snr = _squared_error(layer, denoise, data, spread.time)
    return -_WEIGHTS[weight](log_snr, layer.denoiser.data_scale) * spread.weight * error / layer.features


def bound_at_ends(layer: Any, data: Tensor) -> Tensor:
    r"""What the bound has beside the denoiser's part, in nats, of the batch shape of the data.

    The log-density of data given their least noisy value, and minus the divergence of the noisiest from the base.
    """
    first, last = layer.denoiser.noising.log_snr(_both_ends(data))
    decoded = -0.5 * layer.features * (math.log(2 * math.pi) + 1 - first)
    return decoded - 0.5 * last.exp() * data.square().flatten(-len(layer.event_shape)).sum(-1)


class _Spread(NamedTuple):
    """Times, and what each must be weighed by to stand for evenly spread ones."""

    time: Tensor
    weight: Tensor


def _even(data: Tensor, batch: torch.Size) -> Tensor:
    """Numbers in [0, 1), evenly spread over the batch from one random start."""
    count = batch.numel()
    places = torch.arange(count, dtype=data.dtype, device=data.device) / count
    return ((places + torch.rand_like(places[:1])) % 1).reshape(batch)


def _times(layer: Any, data: Tensor, batch: torch.Size, times: Times) -> _Spread:
    even = _even(data, batch)
    if times == "uniform":
        return _Spread(even, torch.ones_like(even))
    start, end = _ends(layer, data)
    time = layer.denoiser.noising.time_of(start + even * (end - start)).detach()
    return _Spread(time, (end - start) / _fall(layer, time))


def _log_normal(layer: Any, data: Tensor, batch: torch.Size) -> _Spread:
    start, end = _ends(layer, data)
    log_snr = -2 * (-1.2 + 1.2 * torch.randn(batch, dtype=data.dtype, device=data.device))
    time = layer.denoiser.noising.time_of(log_snr.clamp(end, start))
    return _Spread(time, torch.ones_like(time))


def _ends(layer: Any, data: Tensor) -> tuple[Tensor, Tensor]:
    start, end = layer.denoiser.noising.log_snr(_both_ends(data))
    return start, end


def _both_ends(data: Tensor) -> Tensor:
    return torch.arange(2, dtype=data.dtype, device=data.device)


def _fall(layer: Any, time: Tensor) -> Tensor:
    """The slope of the log signal-to-noise ratio, which is negative."""
    value, pull = torch.func.vjp(layer.denoiser.noising.log_snr, time)  # type: ignore[misc]
    return pull(torch.ones_like(value))[0]


def _squared_error(layer: Any, denoise: Any, data: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Of the noise, summed over events, and the log signal-to-noise ratio; both of the batch shape."""
    noise = torch.randn_like(data)
    found = denoise(layer.denoiser.noisy(data, noise, time), time)
    error = (noise - found.noise).square().flatten(-len(layer.event_shape)).sum(-1)
    return error, layer.denoiser.noising.log_snr(time)


def _continuous(layer: Any, denoise: Any, data: Tensor, batch: torch.Size, times: Times) -> Tensor:
    spread = _times(layer, data, batch, times)
    error, _ = _squared_error(layer, denoise, data, spread.time)
    return -0.5 * _fall(layer, spread.time) * spread.weight * error


def _chain(layer: Any, denoise: Any, data: Tensor, batch: torch.Size, steps: int) -> Tensor:
    """The divergences of all steps by that of one, drawn evenly."""
    time = (_even(data, batch) * steps).floor().add(1).clamp(max=steps) / steps
    error, log_snr = _squared_error(layer, denoise, data, time)
    earlier = layer.denoiser.noising.log_snr(time - 1 / steps)
    return 0.5 * steps * torch.expm1(earlier - log_snr) * error


_WEIGHTS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "simple": lambda log_snr, scale: torch.ones_like(log_snr),
    "snr": lambda log_snr, scale: (-log_snr).exp().clamp(min=1.0),
    "min_snr": lambda log_snr, scale: (5 * (-log_snr).exp()).clamp(max=1.0),
    "edm": lambda log_snr, scale: 1 + (-log_snr).exp() / scale**2,
}
