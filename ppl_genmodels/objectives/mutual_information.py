r"""The mutual information of what a model draws and of its codes, as a recognition network bounds it.

Convention of this module: the recognition is a Pyro program of the drawn values, shape (rows, \*event), with a site for
each code, in a plate of its rows alone, particles being rows; it is called with what the model draws, never with data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pyro import poutine
from torch import Tensor

from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Run, Traced
from ppl_genmodels.objectives.term import Term
from ppl_genmodels.structure import Node

__all__ = ["mutual_information"]


def mutual_information(codes: str | Sequence[str], site: str, recognition: Callable[[Tensor], Any]) -> Objective:
    r"""A lower bound on the mutual information of codes and of what the model draws from them.

    .. math:: I(c; x) \ge E_{p(c, x)}[\log q(c \mid x)] + H(c) = E_{p(c, x)} \log \frac{q(c \mid x)}{p(c)}

    All of it is drawn from the prior. The gradient reaches the recognition, whose parameters are to be the program's,
    and through the drawn values what makes them, so that these come to tell their codes. The bound is short of the
    information by the mean divergence of the recognition from the posterior of the codes, the model's own.

    Through a draw without reparameterization, as of a categorical code, there is no gradient for its prior, which is
    to be fixed.

    Reduction: summed over the codes, averaged over particles and data; in nats.

    Args:
        codes: Name of a latent site of the model, or several.
        site: Name of the site that is drawn from them.
        recognition: From drawn values to a run with a site of each code's name, :math:`q(c \mid x)`; best a method of
            the program's own module.

    Raises:
        OptionError: When there is no code, or the recognition cannot be called.
        UnknownNameError: When the model, or the recognition, has no site of a name.
        ProgramError: When a site is not in the plate of the data alone.

    References:
        Barber and Agakov (2003), The IM Algorithm, equation 3; Chen and others (2016), InfoGAN, equation 5.

    Example:
        >>> from ppl_genmodels.models import InfoGAN
        >>> program = InfoGAN(event_shape=(2,), categories=4)
        >>> print(mutual_information("c", "x", program.recognition))
        I(c; x)
    """
    names = (codes,) if isinstance(codes, str) else tuple(codes)
    if not names or not callable(recognition):
        raise OptionError(
            f"mutual_information: codes={codes!r} and recognition={recognition!r}, expected names of sites and a "
            f"program of what is drawn. Remedy: mutual_information('c', 'x', program.recognition)."
        )
    shown = ",".join(names)
    values = partial(_values, names=names, site=site, recognition=recognition)
    formula = f"I({shown}; {site})"
    return Objective.of(Term(f"mutual_information[{shown};{site}]", formula, formula, values))


def _values(run: Run, names: tuple[str, ...], site: str, recognition: Callable[[Tensor], Any]) -> Tensor:
    """The log-ratio of recognition and prior at the codes that were drawn."""
    priors = run.select(run.prior.latent, names, f"mutual_information of the model's '{site}'")
    codes = {node["name"]: _rows(run, node["name"], node["value"]) for node in priors}
    recognized = _recognized(run, recognition, codes, _rows(run, site, _drawn(run, site)))
    gains = [_log_prob(run, recognized[node["name"]]) - _log_prob(run, node) for node in priors]
    return sum(gains[1:], start=gains[0])


def _recognized(run: Run, recognition: Callable[[Tensor], Any], codes: dict[str, Tensor], x: Tensor) -> dict[str, Node]:
    """The recognition's sites, at the codes that were drawn."""
    with run.program.scope(), poutine.trace() as tracer:
        poutine.condition(recognition, data=codes)(x)
    nodes = Traced(tracer.trace).nodes
    for name in codes:
        if name not in nodes:
            raise UnknownNameError("site", name, nodes, "of the recognition, in mutual_information")
    more = [name for name in nodes if name not in codes]
    if more:
        raise ProgramError(
            f"mutual_information: the recognition draws '{more[0]}', which is not among the codes "
            f"{', '.join(map(repr, codes))}. Remedy: name it too, if it is a latent site of the model."
        )
    return nodes


def _drawn(run: Run, site: str) -> Tensor:
    drawn = {**run.prior.nodes, **run.prior.deterministic}
    if site not in drawn:
        raise UnknownNameError("site", site, drawn, "of the model, in mutual_information")
    value: Tensor = drawn[site]["value"]
    return value


def _log_prob(run: Run, node: Node) -> Tensor:
    """Of a site's value, shape (particles, rows)."""
    expected, found = run.num_particles * run.batch_rows, run.raw_log_prob(node)
    if found.numel() != expected:
        raise ProgramError(
            f"mutual_information: '{node['name']}' has log-densities of shape {tuple(found.shape)}, expected one for "
            f"each of {expected} rows. Remedy: put it into the plate of the rows alone, with .to_event of its dims."
        )
    return found.reshape(run.num_particles, run.batch_rows)


def _rows(run: Run, name: str, value: Tensor) -> Tensor:
    """A value with particles and rows in one dim."""
    batch = (run.num_particles, run.batch_rows)[run.num_particles == 1 :]
    if value.shape[: len(batch)] != batch:
        raise ProgramError(
            f"mutual_information: '{name}' has shape {tuple(value.shape)}, expected {batch} first, one value for each "
            f"row. Remedy: put the site into the plate of the data alone."
        )
    return value.flatten(0, len(batch) - 1)
