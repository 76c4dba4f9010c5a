r"""Noise-contrastive estimation: a density learned by telling data from noise, its normalizer with it.

Convention of this module: the log-odds of a value are :math:`h(x) = \log p(x) - \log q(x) - \log \nu` for noise
:math:`q`, of which there are :math:`\nu` draws for each datum.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ppl_genmodels.distributions.unvalidated import unvalidated
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.energy_sites import chosen_sites, data_of, energy_of, has_energy, scaled
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node

__all__ = ["noise_contrastive"]


def noise_contrastive(*sites: str, noise: Any = None, ratio: int = 1) -> Objective:
    r"""The log-likelihood of telling data from noise by their densities.

    .. math:: \log \sigma(h(x)) + \sum_{j=1}^{\nu} \log \sigma(-h(y_j)), \quad y_j \sim q

    Its optimum is the data's density with its normalizer, so that the log-normalizer of an
    :class:`~ppl_genmodels.distributions.Energy` is learned as a parameter. Noise that is like the data, and more of it,
    makes what is learned more exact. Values are taken as data: no gradient passes to a guide, nor to the noise.

    Reduction: summed over a datum's sites and inner plates, averaged over particles and data.

    Args:
        *sites: Names of sites of the model; none means all whose distribution is an energy.
        noise: A distribution of the sites' event shape and without batch dims, on the program's device: anything with
            ``sample`` and ``log_prob``; by default where an energy's chains start.
        ratio: :math:`\nu`, how many draws of noise for each datum.

    Raises:
        OptionError: When ``ratio`` is no positive integer, or the noise has batch dims.
        UnknownNameError: When a run has no site of that name.
        ProgramError: When a site is no energy, where none is named or no noise is given, or the noise has another
            event shape than a site.

    References:
        Gutmann and Hyvärinen (2012), Noise-Contrastive Estimation of Unnormalized Statistical Models, equations 8 to
        12.

    Example:
        >>> import pyro.distributions as dist
        >>> print(noise_contrastive("x", noise=dist.Normal(torch.zeros(2), 1.0).to_event(1)))
        E[log σ(h(x))] + E_q[log σ(-h(y))]
    """
    check_size("noise_contrastive", "ratio", ratio)
    if noise is not None and noise.batch_shape:
        raise OptionError(
            f"noise_contrastive: the noise has batch shape {tuple(noise.batch_shape)}, expected none. Remedy: "
            f".to_event({len(noise.batch_shape)}) for noise of one value."
        )
    shown, times = ",".join(sites) or "x", "" if ratio == 1 else f"{ratio} "
    formula = f"E[log σ(h({shown}))] + {times}E_q[log σ(-h(y))]"
    latex = rf"\mathbb{{E}} \log \sigma(h(x)) + {times}\mathbb{{E}}_q \log \sigma(-h(y))"
    values = partial(_values, sites, noise, ratio)
    return Objective.of(Term(named("noise_contrastive", sites), formula, latex, values))


def _values(sites: tuple[str, ...], noise: Any, ratio: int, run: Run) -> Tensor:
    where = called("noise_contrastive", sites)
    what = "an energy. Remedy: name the sites and the noise"
    nodes = chosen_sites(run, sites, where, lambda fn: has_energy(fn) or (bool(sites) and noise is not None), what)
    return run.total((node, scaled(node, _of_site(node, noise, ratio, where))) for node in nodes)


def _of_site(node: Node, noise: Any, ratio: int, where: str) -> Tensor:
    fn, data = node["fn"], data_of(node)
    noise = unvalidated(energy_of(fn).start if noise is None else noise)
    if noise.event_shape != fn.event_shape:
        raise ProgramError(
            f"{where}: the noise has event shape {tuple(noise.event_shape)}, that of site '{node['name']}' is "
            f"{tuple(fn.event_shape)}. Remedy: noise of the shape of one value."
        )
    with torch.no_grad():
        drawn = noise.sample((ratio, *fn.batch_shape))
        of_data, of_drawn = noise.log_prob(data), noise.log_prob(drawn)
    found, missed = (
        fn.log_prob(value) - density - math.log(ratio) for value, density in ((data, of_data), (drawn, of_drawn))
    )
    return logsigmoid(found) + logsigmoid(-missed).sum(0)
