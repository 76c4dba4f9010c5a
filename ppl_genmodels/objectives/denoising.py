r"""The denoising objective of a diffusion: its evidence bound estimated at one random time for each datum.

Convention of this module: time runs from 0, data, to 1, noise; the squared error is that of the noise,
:math:`\|\epsilon - \hat\epsilon\|^2`, summed over an event, and :math:`\lambda` is the log signal-to-noise ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import ComposeTransform

from ppl_genmodels.distributions.reverse_step import step_divergence
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.continuous_sites import continuous_layers, continuous_sites, to_site
from ppl_genmodels.objectives.noise_times import Times, draw_times, fall, log_normal_times
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node
from ppl_genmodels.transforms.probability_flow import ProbabilityFlow

__all__ = ["bound_at_ends", "denoising"]

Weight = Literal["elbo", "simple", "snr", "min_snr", "edm"]


def denoising(*sites: str, weight: Weight = "elbo", steps: int | None = None, times: Times = "uniform") -> Objective:
    r"""How well a diffusion's denoiser tells data from noise, at one time for each datum.

    - ``"elbo"`` is the evidence bound in nats, of the chain of so many steps or of continuous time,
      :math:`-\tfrac12 E[-\lambda'_t \|\epsilon - \hat\epsilon\|^2]` and what does not depend on the denoiser;
    - ``"simple"`` is minus the mean squared error of the noise;
    - ``"snr"``, ``"min_snr"`` and ``"edm"`` weigh it by :math:`\max(1, e^{-\lambda})`, by
      :math:`\min(1, 5 e^{-\lambda})`, and by :math:`1 + e^{-\lambda} / s^2` with times of log-normal noise, where
      :math:`s` is the scale of the data.

    The times of a run are spread evenly over [0, 1] from one random start. ``times="log_snr"`` spreads the log
    signal-to-noise ratio evenly instead, and ``times="importance"`` draws those more often at which the loss has been
    large; both leave the mean what it is, and serve the bound with less variance. Values are taken as data: no gradient
    passes to a guide, nor to the layers after the diffusion, which are inverted first.

    Reduction: summed over a datum's sites and inner plates, averaged over particles and data; all but the bound are
    means over an event's numbers.

    Args:
        *sites: Names of sites of the model whose distribution is a :class:`~ppl_genmodels.distributions.Diffusion`, or
            a flow that begins with one; none means all of them.
        weight: One of the five.
        steps: Of the chain whose bound it is; None for continuous time. For ``"elbo"`` alone.
        times: How times are spread; not for ``"edm"``, which has its own.

    Raises:
        OptionError: When an option is none of those named, or not for this weight.
        UnknownNameError: When a run has no site of that name.
        ProgramError: When a site is no diffusion, when its denoiser learns the variance of a chain and no chain is
            asked for, or when its noising is learned and the weight is not the bound's.

    References:
        Kingma, Salimans, Poole and Ho (2021), Variational Diffusion Models, equations 13 to 18 and appendix I.1; Ho,
        Jain and Abbeel (2020), equation 14; Salimans and Ho (2022), section 4, for snr; Hang and others (2023),
        Efficient Diffusion Training via Min-SNR Weighting Strategy; Karras and others (2022), table 1; Nichol and
        Dhariwal (2021), section 3.3, for importance.

    Example:
        >>> print(denoising("x", weight="simple"))
        -E[w |eps - eps(x_t,t)|²]
    """
    _check_options(weight, steps, times)
    shown = ",".join(sites) or "x"
    formula = f"-E[w |eps - eps({shown}_t,t)|²]"
    latex = r"-\mathbb{E}[w_t \|\epsilon - \hat\epsilon(x_t, t)\|^2]"
    values = partial(_values, sites, weight, steps, times)
    return Objective.of(Term(named("denoising", sites), formula, latex, values))


def bound_at_ends(layer: Any, data: Tensor) -> Tensor:
    r"""What the bound has beside the denoiser's part, in nats, of the batch shape of the data.

    The log-density of data given their least noisy value, and minus the divergence of the noisiest from the base.
    """
    first, last = layer.denoiser.noising.log_snr(torch.arange(2, dtype=data.dtype, device=data.device))
    decoded = -0.5 * layer.features * (math.log(2 * math.pi) + 1 - first)
    return decoded - 0.5 * last.exp() * data.square().flatten(-len(layer.event_shape)).sum(-1)


def _check_options(weight: str, steps: int | None, times: str) -> None:
    for option, value, known in (("weight", weight, get_args(Weight)), ("times", times, get_args(Times))):
        if value not in known:
            raise OptionError(f"denoising: {option}={value!r}, expected one of {', '.join(map(repr, known))}.")
    if steps is not None:
        check_size("denoising", "steps", steps)
        if weight != "elbo" or times == "log_snr":
            raise OptionError(
                "denoising: steps are those of the chain whose bound is taken. Remedy: weight='elbo', and times="
                "'uniform' or 'importance'."
            )
    if weight == "edm" and times != "uniform":
        raise OptionError(f"denoising: weight='edm' has times of its own, got times={times!r}. Remedy: leave it out.")


def _check_noising(noising: nn.Module, where: str, weight: str) -> None:
    if any(parameter.requires_grad for parameter in noising.parameters()):
        raise ProgramError(
            f"{where}: weight={weight!r} would teach the learned noising to ask easy questions. Remedy: weight='elbo', "
            f"whose value no noising can cheat, or noising='cosine'."
        )


def _values(sites: tuple[str, ...], weight: Weight, steps: int | None, times: Times, run: Run) -> Tensor:
    where = called("denoising", sites)
    found = continuous_sites(run, sites, where, with_guide=False)
    return run.total((node, to_site(node, _of_site(node, flow, weight, steps, times, where))) for node, flow in found)


def _of_site(node: Node, flow: Any, weight: Weight, steps: int | None, times: Times, where: str) -> Tensor:
    place, layer, context = continuous_layers(flow)[0]
    if not isinstance(layer, ProbabilityFlow) or place:
        raise ProgramError(
            f"{where}: the flow of site '{node['name']}' does not begin with a diffusion. Remedy: "
            f"distributions.Diffusion(flow) for the site, or objectives.flow_matching() for this one."
        )
    data, stretched = _before_layers(node, flow, layer)
    if weight != "elbo":
        _check_noising(layer.denoiser.noising, where, weight)
        return -_weighed(layer, data, flow.batch_shape, context, weight, times)
    lost = _lost(layer, data, flow.batch_shape, context, steps, times, where)
    return bound_at_ends(layer, data) - lost - stretched


@torch.no_grad()
def _before_layers(node: Node, flow: Any, layer: Any) -> tuple[Tensor, Tensor]:
    """The diffusion's own data, and the log-determinant of the layers after it."""
    value = node["value"].expand(flow.batch_shape + flow.event_shape)
    after = ComposeTransform(flow.transforms[1:])
    data = after.inv(value)
    stretched = after.log_abs_det_jacobian(data, value) if flow.transforms[1:] else data.new_zeros(flow.batch_shape)
    return data.reshape(flow.batch_shape + layer.event_shape), stretched


def _weighed(layer: Any, data: Tensor, batch: torch.Size, context: Any, weight: Weight, times: Times) -> Tensor:
    """The weighed squared error, a mean over an event's numbers."""
    denoiser = layer.denoiser
    drawn = log_normal_times(denoiser, data, batch) if weight == "edm" else draw_times(denoiser, data, batch, times)
    log_snr = denoiser.noising.log_snr(drawn.time)
    error = _squared_error(denoiser, data, drawn.time, context) / layer.features
    loss = _WEIGHTS[weight](log_snr, denoiser.data_scale) * error
    return _remembered(denoiser, drawn.time, loss, times) * drawn.weight


def _lost(
    layer: Any, data: Tensor, batch: torch.Size, context: Any, steps: int | None, times: Times, where: str
) -> Tensor:
    """The divergences of all steps, or of continuous time, by what one time says of them."""
    denoiser = layer.denoiser
    drawn = draw_times(denoiser, data, batch, times)
    if steps is None:
        if denoiser.learned_variance:
            raise ProgramError(f"{where}: the denoiser learns the variance of a chain's steps. Remedy: steps=1000.")
        rate = -0.5 * fall(denoiser, drawn.time)
        loss = rate * _squared_error(denoiser, data, drawn.time, context)
    else:
        time = (drawn.time * steps).floor().add(1).clamp(max=steps) / steps
        loss = steps * step_divergence(denoiser, data, torch.randn_like(data), time, time - 1 / steps, context)
    return _remembered(denoiser, drawn.time, loss, times) * drawn.weight


def _squared_error(denoiser: Any, data: Tensor, time: Tensor, context: Any) -> Tensor:
    """Of the noise, summed over events."""
    noise = torch.randn_like(data)
    found = denoiser(denoiser.noisy(data, noise, time), time, context)
    return (noise - found.noise).square().flatten(data.dim() - denoiser.event_dim).sum(-1)


def _remembered(denoiser: Any, time: Tensor, loss: Tensor, times: Times) -> Tensor:
    if times == "importance" and torch.is_grad_enabled():
        denoiser.importance.remember(time, loss)
    return loss


_WEIGHTS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "simple": lambda log_snr, scale: torch.ones_like(log_snr),
    "snr": lambda log_snr, scale: (-log_snr).exp().clamp(min=1.0),
    "min_snr": lambda log_snr, scale: (5 * (-log_snr).exp()).clamp(max=1.0),
    "edm": lambda log_snr, scale: 1 + (-log_snr).exp() / scale**2,
}
