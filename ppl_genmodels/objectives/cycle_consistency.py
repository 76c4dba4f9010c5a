r"""Cycle consistency: how well data are met again after a translation there and back.

Convention of this module: the model draws the way there and back as sites, whose distributions price the data from
which the way began.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.term import Term
from ppl_genmodels.objectives.two_sides import arguments

__all__ = ["cycle_consistency"]


def cycle_consistency(**cycles: str) -> Objective:
    r"""The log-density of data under what the model draws when it has translated them there and back.

    .. math:: \log p(x \mid F(G(x))) + \log p(y \mid G(F(y)))

    Of sites that are Laplace with unit scale that is minus the absolute errors, up to a constant.

    Reduction: summed over a datum and over the cycles, averaged over particles and data; in nats.

    Args:
        **cycles: For each argument of the model the name of the site at the end of its way there and back.

    Raises:
        OptionError: When there is no cycle.
        UnknownNameError: When the model has no argument or draws no site of a name.
        ProgramError: When a site is not in the plate of the data alone.

    References:
        Zhu, Park, Isola and Efros (2017), Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
        Networks, equation 2; Tiao, Bonilla and Ramos (2018), Cycle-Consistent Adversarial Learning as Approximate
        Bayesian Inference, for the likelihood.

    Example:
        >>> print(cycle_consistency(x="x_cycle", y="y_cycle"))
        log p(x, y|there and back)
    """
    if not cycles:
        raise OptionError("cycle_consistency: no cycle was given. Remedy: cycle_consistency(x='x_cycle').")
    shown = ", ".join(cycles)
    latex = rf"\log p({shown} \mid \text{{there and back}})"
    name = f"cycle_consistency[{','.join(cycles)}]"
    return Objective.of(Term(name, f"log p({shown}|there and back)", latex, partial(_values, cycles=cycles)))


def _values(run: Run, cycles: dict[str, str]) -> Tensor:
    found = [_log_prob(run, argument, site) for argument, site in cycles.items()]
    return sum(found[1:], start=found[0])


def _log_prob(run: Run, argument: str, site: str) -> Tensor:
    """Of an argument under a site's distribution, shape (particles, rows)."""
    given = arguments(run)
    if argument not in given:
        raise UnknownNameError("argument", argument, given, "of the model, in cycle_consistency")
    (node,) = run.select(run.prior.nodes, (site,), f"cycle_consistency({argument}='{site}')")
    found: Tensor = node["fn"].log_prob(given[argument])
    if found.shape[-1:] != (run.batch_rows,) or found.dim() > 2:
        raise ProgramError(
            f"cycle_consistency: '{site}' has log-densities of shape {tuple(found.shape)} at '{argument}', expected "
            f"one for each of {run.batch_rows} rows. Remedy: put it into the plate of the data alone, with .to_event."
        )
    return found.expand(run.num_particles, run.batch_rows)
