r"""Contrastive divergence: energies lowered at data and raised where chains of the model get to.

Convention of this module: the gradient of :math:`\log p(x)` is :math:`-\nabla E(x) + E_p[\nabla E]`; the expectation is
taken at the ends of Langevin chains, one for each datum.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ppl_genmodels.distributions import Energy
from ppl_genmodels.distributions.langevin import langevin
from ppl_genmodels.distributions.replay_buffer import ReplayBuffer
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.energy_sites import chosen_sites, data_of, energy_of, has_energy, scaled
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node

__all__ = ["contrastive_divergence"]


def contrastive_divergence(*sites: str, steps: int = 20, adjusted: bool = True, persistent: bool = False) -> Objective:
    r"""Mean log-density of the data less that of what chains of the model get to.

    .. math:: \log p(x) - \log p(x^-) = E(x^-) - E(x)

    Its gradient is that of the log-likelihood when the chains have reached the model's distribution; its value is no
    likelihood, but says how well energies tell data and chains apart, and is about zero at the end. Chains begin at the
    data, or with ``persistent=True`` go on from step to step in the energy's
    :class:`~ppl_genmodels.distributions.ReplayBuffer`, which finds modes far from the data. The step's size is that of
    the energy's own chains. Values are taken as data: no gradient passes to a guide.

    Reduction: summed over a datum's sites and inner plates, averaged over particles and data.

    Args:
        *sites: Names of sites of the model whose distribution is an :class:`~ppl_genmodels.distributions.Energy`; none
            means all of them.
        steps: Of each chain.
        adjusted: Whether steps are taken or refused by Metropolis and Hastings' rule. Without it the chains' own
            density, and so what is learned, is off by what grows with the step's size.
        persistent: Whether the chains go on from step to step.

    Raises:
        OptionError: When ``steps`` is no positive integer.
        UnknownNameError: When a run has no site of that name.
        ProgramError: When a site is no energy, or one without chains where they shall be persistent.

    References:
        Hinton (2002), Training Products of Experts by Minimizing Contrastive Divergence, equation 5; Tieleman (2008),
        section 2; Du and Mordatch (2019), algorithm 1, without their penalty.

    Example:
        >>> print(contrastive_divergence("x", steps=5))
        E[log p(x)] - E[log p(x^-)]
    """
    check_size("contrastive_divergence", "steps", steps)
    shown = ",".join(sites) or "x"
    formula, latex = f"E[log p({shown})] - E[log p({shown}^-)]", r"\mathbb{E} \log p(x) - \mathbb{E} \log p(x^-)"
    values = partial(_values, sites, steps, adjusted, persistent)
    return Objective.of(Term(named("contrastive_divergence", sites), formula, latex, values))


def _values(sites: tuple[str, ...], steps: int, adjusted: bool, persistent: bool, run: Run) -> Tensor:
    where = called("contrastive_divergence", sites)
    what = "an energy. Remedy: distributions.Energy(network, event_shape) for the site"
    nodes = chosen_sites(run, sites, where, has_energy, what)
    return run.total((node, _of_site(node, steps, adjusted, persistent, where)) for node in nodes)


def _of_site(node: Node, steps: int, adjusted: bool, persistent: bool, where: str) -> Tensor:
    energy, data = energy_of(node["fn"]), data_of(node)
    if persistent:
        far = _gone_on(energy, _buffer(energy, node, where), data, steps, adjusted)
    else:
        far = langevin(energy.log_density, data, steps, energy.step_size, adjusted)
    return scaled(node, node["fn"].log_prob(data) - node["fn"].log_prob(far))


def _gone_on(energy: Energy, buffer: ReplayBuffer, data: Tensor, steps: int, adjusted: bool) -> Tensor:
    """Ends of chains that began where earlier ones ended, of the shape of the data."""
    rows = data.shape[: data.dim() - len(energy.event_shape)]
    places, begun = buffer.take(rows.numel(), energy.start)
    ends = langevin(energy.log_density, begun, steps, energy.step_size, adjusted)
    buffer.keep(places, ends)
    return ends.reshape(data.shape)


def _buffer(energy: Energy, node: Node, where: str) -> ReplayBuffer:
    if energy.chains is None:
        raise ProgramError(
            f"{where}: the energy of site '{node['name']}' has no chains that could go on. Remedy: Energy(..., "
            f"chains=ReplayBuffer(event_shape)), held by the module of the network."
        )
    return energy.chains
