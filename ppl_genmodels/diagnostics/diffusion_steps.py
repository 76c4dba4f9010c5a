r"""The evidence of a diffusion, step by step of its chain: what every step costs and what is known after it.

Convention of this module: a step leads from time :math:`t` to an earlier one, from noise at 1 to data at 0; a row says
what holds after its step. Costs are in nats for each datum, rates in bits per dimension, distortions in the data's
units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from pyro.distributions import Normal
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_genmodels.diagnostics.diffusion_noise import draw_noise, own_seed
from ppl_genmodels.diagnostics.fitted_like import to_array
from ppl_genmodels.diagnostics.sample_rows import Values, checked_rows
from ppl_genmodels.diagnostics.style import new_axes, styled
from ppl_genmodels.distributions.reverse_step import step_divergence
from ppl_genmodels.distributions.samplers import time_grid
from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["describe_steps", "plot_steps"]


def describe_steps(
    flow: Any, x: Any, steps: int = 100, *, context: Tensor | None = None, cell: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    r"""The evidence bound of the chain of a diffusion, as a table of its terms from noise to data.

    The first row is the prior's divergence :math:`KL(q(z_T \mid x) \| p(z_T))`, then come the steps, and the last is
    the decoder's :math:`-E \log p(x \mid z_0)`, which is negative where the density of data exceeds one. Their ``nats``
    sum to minus the chain's bound; the last ``rate`` is that in bits per dimension. A rate before it is what a receiver
    of the data has been sent so far, and the distortion the root mean squared error of its estimate of them.

    Costs are estimated with new noise at every step, so that errors average out in their sum; distortions with one draw
    for all steps, so that their curve is smooth. All data are in memory at once.

    Args:
        flow: The :class:`~ppl_genmodels.transforms.ProbabilityFlow` of the denoiser.
        x: Data, shape (rows, \*event), in the units that the diffusion has.
        steps: Of the chain.
        context: What the denoiser is given, shape (rows, features).
        cell: Width, in these units, of the cell of a level, when data are levels dequantized uniformly: 2 / levels for
            pixels between -1 and 1. The rate is then that of the levels.
        seed: Of the noise.

    Returns:
        One row for each term: ``term`` (prior, step, decoder), ``time`` and ``log_snr`` reached, ``nats`` and its
        ``standard_error`` over data, ``rate`` so far and its ``rate_error``, and ``distortion``, which the decoder's
        row does not have.

    Raises:
        DataError: When the data have another event shape, fewer than 2 rows, or values that are not finite.
        OptionError: When ``steps`` is no positive integer, or ``cell`` not positive.

    References:
        Kingma, Salimans, Poole and Ho (2021), Variational Diffusion Models, equations 11 to 13; Ho, Jain and Abbeel
        (2020), section 4.3 and algorithms 3 and 4, for rate and distortion.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> from ppl_genmodels.transforms import ProbabilityFlow
        >>> flow = ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,))
        >>> frame = describe_steps(flow, np.zeros((5, 2)), steps=3)
        >>> frame["term"].tolist(), frame["time"].round(2).tolist()
        (['prior', 'step', 'step', 'step', 'decoder'], [1.0, 0.67, 0.33, 0.0, 0.0])
    """
    data = _checked_data(flow, x)
    if not cell > 0:
        raise OptionError(
            f"describe_steps: cell={cell}, expected a positive width. Remedy: 2 / levels, or leave it out."
        )
    terms = list(_terms(flow, data, check_size("describe_steps", "steps", steps), context, seed))
    terms[-1] = terms[-1]._replace(nats=terms[-1].nats - flow.features * math.log(cell))
    nats = np.stack([to_array(term.nats) for term in terms]).astype(np.float64)
    bits = nats.cumsum(0) / (flow.features * math.log(2))
    times = torch.stack([term.time for term in terms])
    with torch.no_grad():
        log_snr = flow.denoiser.noising.log_snr(times)
    return pd.DataFrame(
        {
            "term": [term.name for term in terms],
            "time": to_array(times).astype(np.float64),
            "log_snr": to_array(log_snr).astype(np.float64),
            "nats": nats.mean(1),
            "standard_error": _standard_error(nats),
            "rate": bits.mean(1),
            "rate_error": _standard_error(bits),
            "distortion": [term.squared_error**0.5 for term in terms],
        }
    )


@styled
def plot_steps(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What each step of the chain costs, over the time it reaches, with twice its standard error about it.

    Args:
        frame: As :func:`describe_steps` gives it.
        ax: Where to draw.

    Example:
        >>> from matplotlib.figure import Figure
        >>> frame = pd.DataFrame({"term": ["prior", "step", "decoder"], "time": [1.0, 0.0, 0.0]})
        >>> plot_steps(frame.assign(nats=[0.1, 2.0, 5.0], standard_error=0.1), Figure().subplots()).get_ylabel()
        'nats'
    """
    axes: Axes = new_axes(size=(6.8, 3.8)) if ax is None else ax
    steps, ends = frame[frame["term"] == "step"], frame.set_index("term")["nats"]
    low = (steps["nats"] - 2 * steps["standard_error"]).clip(lower=0.1 * steps["nats"].min())
    axes.fill_between(steps["time"], low, steps["nats"] + 2 * steps["standard_error"], alpha=0.25, linewidth=0)
    total = f"{len(steps)} steps: {steps['nats'].sum():.3g} in all"
    axes.plot(steps["time"], steps["nats"], marker="o" if len(steps) < 50 else None, markersize=3, label=total)
    axes.plot([], [], " ", label=f"prior: {ends['prior']:.3g}")
    axes.plot([], [], " ", label=f"decoder: {ends['decoder']:.3g}")
    axes.set(title="cost of each step", xlabel="time reached (noise at 1, data at 0)", ylabel="nats", yscale="log")
    axes.invert_xaxis()
    axes.legend()
    return axes


class _Term(NamedTuple):
    """One term of minus the bound: the time reached, its nats, shape (rows,), the mean squared error that is left."""

    name: str
    time: Tensor
    nats: Tensor
    squared_error: float


@torch.no_grad()
def _terms(flow: Any, data: Tensor, steps: int, context: Tensor | None, seed: int) -> Iterator[_Term]:
    denoiser, generator = flow.denoiser, torch.Generator(data.device).manual_seed(own_seed(seed))
    common, times = draw_noise(flow, len(data), generator), time_grid(steps, flow.base_loc)

    def term(name: str, time: Tensor, nats: Tensor) -> _Term:
        estimate = denoiser(denoiser.noisy(data, common, time), time, context).data
        return _Term(name, time, nats, float((data - estimate).square().mean()))

    yield term("prior", times[0], _of_prior(flow, data, times[0]))
    for time, earlier in pairwise(times):
        noise = draw_noise(flow, len(data), generator)
        yield term("step", earlier, step_divergence(denoiser, data, noise, time, earlier, context))
    yield _Term("decoder", times[-1], _of_decoder(flow, data, times[-1]), math.nan)


def _of_prior(flow: Any, data: Tensor, time: Tensor) -> Tensor:
    """The divergence of the noisiest values from the base, shape (rows,)."""
    alpha, sigma = flow.denoiser.scales(time)
    base = flow.base_scale().reshape(flow.event_shape)
    found = kl_divergence(Normal(alpha * data, sigma * torch.ones_like(data)), Normal(torch.zeros_like(base), base))
    return found.flatten(1).sum(-1)


def _of_decoder(flow: Any, data: Tensor, time: Tensor) -> Tensor:
    """Minus the expected log-density of the data given their least noisy values, the same for all data."""
    alpha, sigma = flow.denoiser.scales(time)
    entropy = Normal(torch.zeros_like(sigma), sigma / alpha).entropy()
    return (flow.features * entropy).reshape(1).expand(len(data))


def _checked_data(flow: Any, x: Any) -> Tensor:
    checked_rows("describe_steps", "x", x)
    data = torch.as_tensor(x, dtype=flow.base_loc.dtype, device=flow.base_loc.device)
    if tuple(data.shape[1:]) != tuple(flow.event_shape):
        raise DataError(
            f"describe_steps: x has the shape {tuple(data.shape)}, expected (rows, *event) with the diffusion's event "
            f"shape {tuple(flow.event_shape)}. Remedy: reshape the data."
        )
    return data


def _standard_error(values: Values) -> Values:
    error: Values = values.std(1, ddof=1) / math.sqrt(values.shape[1])
    return error
