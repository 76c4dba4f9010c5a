r"""Score matching: the gradient of a log-density learned without its normalizer.

Convention of this module: the score :math:`s(x) = \nabla_x \log p(x)` is that of a site's own distribution, and squares
are summed over an event. Values are not in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ppl_genmodels.distributions import NoisyEnergy
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.networks import Denoiser
from ppl_genmodels.objectives.energy_sites import chosen_sites, data_of, energy_of, has_energy, scaled
from ppl_genmodels.objectives.noise_times import even
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node

__all__ = ["score_matching"]

Kind = Literal["denoising", "sliced", "implicit"]
Score = Callable[[Tensor], Tensor]


def score_matching(
    *sites: str, kind: Kind = "denoising", noise: float | tuple[float, float] | None = None
) -> Objective:
    r"""Minus half the expected squared error of a site's score, up to a constant.

    - ``"implicit"``: :math:`-\tfrac12 \|s(x)\|^2 - \mathrm{tr}\, \nabla s(x)`, whose trace takes a pass for each
      coordinate; for few dims.
    - ``"sliced"``: the trace estimated by one direction of random signs, :math:`v^\top \nabla s(x) \, v`; its mean is
      the implicit value.
    - ``"denoising"``: :math:`-\tfrac12 \|\sigma s(x + \sigma \epsilon) + \epsilon\|^2` with noise :math:`\epsilon`, the
      error weighted by :math:`\sigma^2`. Its optimum is the density of data with that noise. For a
      :class:`~ppl_genmodels.distributions.NoisyEnergy` at all of its levels, each of which has a score of its own.

    The first two need a score that can be differentiated once more: networks with smooth activations, such as SiLU.
    Values are taken as data: no gradient passes to a guide.

    Reduction: summed over a datum's sites and inner plates, averaged over particles and data.

    Args:
        *sites: Names of sites of the model whose log-density is differentiable in the value; none means all whose
            distribution is an energy.
        kind: One of the three.
        noise: For ``"denoising"``, :math:`\sigma`; or its smallest and its largest value, between which each datum has
            one of its own, drawn evenly in :math:`\log \sigma`. A score that does not know the noise is then a mean of
            what it should be at each. None for an energy that knows the noise.

    Raises:
        OptionError: When the kind is none of these, or the noise is not positive, not rising, or not for this kind.
        UnknownNameError: When a run has no site of that name.
        ProgramError: When no site is an energy and none is named, or no noise is given for a score that knows none.

    References:
        Hyvärinen (2005), Estimation of Non-Normalized Statistical Models by Score Matching, equation 4; Song, Garg, Shi
        and Ermon (2019), Sliced Score Matching, equation 8; Vincent (2011), A Connection Between Score Matching and
        Denoising Autoencoders, equation 9; Song and Ermon (2019), equations 5 and 6, for the weight.

    Example:
        >>> print(score_matching("x", noise=0.1))
        -E[|σ s(x + σ eps) + eps|²/2]
    """
    if kind not in get_args(Kind):
        raise OptionError(f"score_matching: kind={kind!r}, expected one of {', '.join(map(repr, get_args(Kind)))}.")
    ends = None if noise is None else _ends(noise)
    if kind != "denoising" and noise is not None:
        raise OptionError(f"score_matching: noise={noise!r} is for kind='denoising', got kind={kind!r}.")
    shown = ",".join(sites) or "x"
    formula, latex = _FORMULAS[kind]
    values = partial(_values, sites, kind, ends)
    return Objective.of(Term(named("score_matching", sites), formula.format(x=shown), latex, values))


def _values(sites: tuple[str, ...], kind: Kind, ends: tuple[float, float] | None, run: Run) -> Tensor:
    where = called("score_matching", sites)
    what = "an energy. Remedy: name the sites"
    nodes = chosen_sites(run, sites, where, lambda fn: bool(sites) or has_energy(fn), what)
    return run.total((node, scaled(node, -_lost(node, kind, ends, where))) for node in nodes)


def _lost(node: Node, kind: Kind, ends: tuple[float, float] | None, where: str) -> Tensor:
    fn, data = node["fn"], data_of(node)
    score = partial(_score, fn)
    if kind != "denoising":
        return (_implicit if kind == "implicit" else _sliced)(score, data, fn.event_dim)
    if ends is not None:
        return _denoising(ends, score, data, fn.event_dim)
    network = energy_of(fn).network if has_energy(fn) else None
    if not isinstance(network, NoisyEnergy):
        raise ProgramError(
            f"{where}: noise=None, and the distribution of site '{node['name']}' does not know the noise. Remedy: "
            f"noise=0.1 for data of unit variance, or an energy of the network NoisyEnergy(denoiser)."
        )
    return _at_all_levels(network.denoiser, data, fn.event_dim)


def _score(fn: Any, value: Tensor) -> Tensor:
    density, pull = torch.func.vjp(fn.log_prob, value)  # type: ignore[misc]
    return pull(torch.ones_like(density))[0]


def _implicit(score: Score, data: Tensor, event_dim: int) -> Tensor:
    found, pull = torch.func.vjp(score, data)  # type: ignore[misc]
    rows = data.dim() - event_dim
    basis = torch.eye(data.shape[rows:].numel(), dtype=data.dtype, device=data.device)
    trace = sum(_dot(pull(one.expand_as(data))[0], one, event_dim) for one in basis.reshape(-1, *data.shape[rows:]))
    return 0.5 * _dot(found, found, event_dim) + trace


def _sliced(score: Score, data: Tensor, event_dim: int) -> Tensor:
    found, pull = torch.func.vjp(score, data)  # type: ignore[misc]
    direction = 2.0 * torch.randint_like(data, 2) - 1
    return 0.5 * _dot(found, found, event_dim) + _dot(pull(direction)[0], direction, event_dim)


def _denoising(ends: tuple[float, float], score: Score, data: Tensor, event_dim: int) -> Tensor:
    batch = data.shape[: data.dim() - event_dim]
    smallest, largest = ends
    log_sigma = math.log(smallest) + math.log(largest / smallest) * even(data, batch)
    sigma = log_sigma.exp().reshape(*batch, *(1 for _ in range(event_dim)))
    noise = torch.randn_like(data)
    error = sigma * score(data + sigma * noise) + noise
    return 0.5 * _dot(error, error, event_dim)


def _at_all_levels(denoiser: Denoiser, data: Tensor, event_dim: int) -> Tensor:
    time, noise = even(data, data.shape[: data.dim() - event_dim]), torch.randn_like(data)
    error = noise - denoiser(denoiser.noisy(data, noise, time), time).noise
    return 0.5 * _dot(error, error, event_dim)


def _dot(one: Tensor, other: Tensor, event_dim: int) -> Tensor:
    product = one * other
    return product.flatten(-event_dim).sum(-1) if event_dim else product


def _ends(noise: float | tuple[float, float]) -> tuple[float, float]:
    ends = noise if isinstance(noise, tuple) else (noise, noise)
    if len(ends) == 2 and 0 < ends[0] <= ends[1]:
        return ends
    raise OptionError(
        f"score_matching: noise={noise!r}, expected a positive number, or the smallest and the largest. Remedy: "
        f"noise=0.1 for data of unit variance."
    )


_FORMULAS = {
    "implicit": ("-E[|s({x})|²/2 + tr ∇s({x})]", r"-\mathbb{E}[\tfrac12 \|s(x)\|^2 + \mathrm{tr} \nabla s(x)]"),
    "sliced": ("-E[|s({x})|²/2 + vᵀ∇s({x})v]", r"-\mathbb{E}[\tfrac12 \|s(x)\|^2 + v^\top \nabla s(x) v]"),
    "denoising": (
        "-E[|σ s({x} + σ eps) + eps|²/2]",
        r"-\tfrac12 \mathbb{E} \|\sigma s(x + \sigma \epsilon) + \epsilon\|^2",
    ),
}
