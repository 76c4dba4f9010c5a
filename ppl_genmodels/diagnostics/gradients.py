r"""What each gradient estimator costs at each latent site: bias, variance and time, measured.

Convention of this module: the gradient is that of the objective, in nats per datum, in all parameters of the guide.
While the estimator of one site is varied, every other site keeps the program's own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyro
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics.gradient_advice import html_of, recommended_in, sentence_of
from ppl_genmodels.diagnostics.gradient_measurement import Measurement, Reference
from ppl_genmodels.diagnostics.gradient_noise import Noise, bias_of
from ppl_genmodels.diagnostics.gradient_picture import draw_comparison
from ppl_genmodels.diagnostics.gradient_ways import Calls, Way, default_ways, given_ways
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers import Estimator, mask_missing
from ppl_genmodels.inference.state import placed
from ppl_genmodels.objectives import Objective, Run, elbo
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.structure import Node

__all__ = ["GradientComparison", "gradients"]

FEWEST_CALLS = 20


@dataclass(frozen=True)
class GradientComparison:
    """What was measured of each estimator at each site; a notebook shows it as a table with its recommendation.

    Attributes:
        table: One row for each site and estimator: ``bias``, the length of the mean gradient's deviation, and
            ``bias_error``, what a standard error adds to it; ``verdict``: ``"biased"``, ``"unbiased"`` (the bias is
            below a tenth of the gradient), ``"not told apart from 0"`` (more calls would tell), or ``"reference"``;
            ``variance``, the trace of the covariance of one gradient, and its standard error ``variance_error``;
            ``time`` of an eager step, the fastest at the site being 1; ``variance_time``, their product; ``declared``,
            whether the estimator says that it is biased; ``recommended``.
        references: For each site what the bias was measured against, in words.
        gradient_length: For each site the length of the gradient that the bias was measured against.
        left_out: For each site and estimator that cannot be used in this program, why.
        calls: How many gradients were taken of each.
    """

    table: pd.DataFrame
    references: Mapping[str, str]
    gradient_length: Mapping[str, float]
    left_out: Mapping[tuple[str, str], str]
    calls: int

    @property
    def recommendation(self) -> str:
        """For each site, in a sentence, the estimator of least variance times time among those without bias."""
        return " ".join(sentence_of(self.table, site) for site in self.references)

    def plot(self, axes: Any = None) -> NDArray[Any]:
        """Bias, variance, time and their product: a row of panels for each site.

        Args:
            axes: Of shape (sites, 4); new ones when None.

        Returns:
            The axes.
        """
        return draw_comparison(self.table, self.gradient_length, axes)

    def __str__(self) -> str:
        shown = self.table.drop(columns=["declared", "recommended"]).to_string(
            index=False, float_format="{:.3g}".format
        )
        return f"{shown}\n{self.recommendation}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_of(self.table, self.references, self.left_out, self.recommendation)


def gradients(
    program: Any,
    data: Any,
    *,
    sites: str | Iterable[str] | None = None,
    estimators: Mapping[str, Estimator | None] | None = None,
    objective: Objective | None = None,
    num_particles: int = 1,
    num_calls: int = 200,
    seed: int = 0,
) -> GradientComparison:
    r"""Measures the bias, the variance and the time of gradient estimators at each latent site of a program.

    The bias is measured against the exact gradient where the program's latent sites have at most 2048 joint values for
    each datum, else against a run of four times as many calls with the pathwise gradient, or, where there is none, with
    the unbiased estimator of least variance. There is one test for all coordinates of the gradient, and a chance of
    0.001 that any unbiased estimator of the table is called biased. Random state, parameters and buffers stay as they
    were.

    Args:
        program: Any object with ``.model`` and ``.guide``, or a pair of them, with the parameters that it has.
        data: One batch of rows, as ``fit`` takes them; NaN means missing.
        sites: Latent sites; by default all.
        estimators: By name what to compare, at the sites that each selects and serves; None is the pathwise gradient.
            By default the pathwise gradient where it passes, and all estimators of this library, with what they need
            left at its default; those that cannot be used in this program are left out.
        objective: What is maximised; :func:`~ppl_genmodels.objectives.elbo` by default.
        num_particles: Draws from the guide for each gradient.
        num_calls: Gradients of each estimator, 20 or more.
        seed: Of the draws.

    Raises:
        DataError: When the data cannot be used.
        OptionError: When ``num_calls`` is too small, or one of the estimators is none.
        ProgramError: When the program has no latent sites, does not take the data, has a guide without parameters, or
            when an estimator can serve none of the sites.
        UnknownNameError: When there is no latent site of a name.

    References:
        Mohamed, Rosca, Figurnov and Mnih (2020), Monte Carlo Gradient Estimation in Machine Learning, section 2.2 for
        variance times cost.

    Example:
        >>> import pyro.distributions as dist
        >>> from ppl_genmodels import handlers
        >>> class Coin(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.logits = torch.nn.Parameter(torch.tensor(0.5))
        ...     def model(self, x):
        ...         with pyro.plate("data", len(x)):
        ...             y = pyro.sample("y", dist.Bernoulli(0.5))
        ...             pyro.sample("x", dist.Normal(y, 1.0), obs=x)
        ...     def guide(self, x):
        ...         with pyro.plate("data", len(x)):
        ...             pyro.sample("y", dist.Bernoulli(logits=self.logits))
        >>> compared = {"score": handlers.ScoreFunction(), "through": handlers.StraightThrough()}
        >>> found = gradients(Coin(), torch.tensor([0.2, 1.5]), estimators=compared, num_calls=50)
        >>> found.table["estimator"].tolist(), found.references["y"]
        (['score', 'through'], 'enumeration')
    """
    if num_calls < FEWEST_CALLS:
        raise OptionError(f"num_calls must be {FEWEST_CALLS} or more, got {num_calls}. Remedy: num_calls=200.")
    objective = elbo() if objective is None else objective
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        prepared, (args, kwargs), latent = _checked(program, data, objective, num_particles)
        nodes = _chosen(latent, sites)
        calls = Calls(prepared, objective, args, kwargs, num_particles, _of_guide(prepared, args, kwargs))
        ways = default_ways(nodes) if estimators is None else given_ways(nodes, estimators)
        with _kept(prepared):
            return _compared(Measurement(calls, latent, num_calls, seed), ways, estimators is not None)


def _checked(program: Any, data: Any, objective: Objective, num_particles: int) -> tuple[Program, Any, list[Node]]:
    """The program, the data as its arguments, and the latent sites of its guide."""
    prepared = as_program(program).wrap(lambda fn: fn)  # whose structure is its own
    rows = Rows.of(data)
    prepared = mask_missing(prepared) if rows.missing else prepared
    args, kwargs = inputs = placed(rows.take(slice(None)), prepared)
    prepared.probe(*args, **kwargs)
    with torch.no_grad(), pyro.validation_enabled(True):
        run = Run(prepared, args, kwargs, num_particles)
        objective.values(run)
    latent = list(run.guide.latent.values())
    if not latent:
        raise ProgramError(
            "the program has no latent sites, so its gradient is exact and there is nothing to compare. Remedy: a "
            "program whose guide draws something."
        )
    return prepared, inputs, latent


def _chosen(latent: list[Node], sites: str | Iterable[str] | None) -> list[Node]:
    """The nodes of the named sites."""
    known = {node["name"]: node for node in latent}
    names = known if sites is None else [sites] if isinstance(sites, str) else list(sites)
    for name in names:
        if name not in known:
            raise UnknownNameError("latent site", name, known, "in gradients(...)")
    return [known[name] for name in names]


def _of_guide(program: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The parameters that the guide's draws and densities depend on.

    Raises:
        ProgramError: When there are none.
    """
    parameters = [parameter for parameter in program.parameters() if parameter.requires_grad]
    run = Run(program, args, kwargs)
    made = [run.raw_log_prob(node).sum() for node in run.guide.latent.values()]
    made += [node["value"].sum() for node in run.guide.latent.values() if node["value"].requires_grad]
    reached = [each for each in made if each.requires_grad]
    if not reached or not parameters:
        raise ProgramError("the guide has no parameters, so no gradient passes its sites. Remedy: give it some.")
    found = torch.autograd.grad(reached, parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, found, strict=True) if gradient is not None]


@contextmanager
def _kept(program: Program) -> Iterator[None]:
    """Leaves the buffers of a program as they were: what a step remembers, such as running means."""
    before = {name: buffer.clone() for name, buffer in program.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in program.named_buffers():
                buffer.copy_(before[name]) if name in before else buffer.zero_()


def _compared(measurement: Measurement, ways: list[Way], given: bool) -> GradientComparison:
    """Measures the ways and puts the table together."""
    usable, left_out = measurement.usable(ways, given)
    noise = measurement.noise_of(usable)
    references = {site: measurement.reference(site, usable, noise, given) for site in _sites(ways)}
    rows = []
    for site, reference in references.items():
        here = {way: noise[way] for way in usable if way.site == site}
        fastest = min(statistics.median(each.seconds) for each in here.values())
        rows += [_row(way, each, reference, fastest, len(usable)) for way, each in here.items()]
    lengths = {site: reference.length for site, reference in references.items()}
    table = pd.DataFrame(rows)
    table["recommended"] = recommended_in(table, lengths)
    words = {site: reference.words for site, reference in references.items()}
    return GradientComparison(table, words, lengths, left_out, measurement.num_calls)


def _sites(ways: list[Way]) -> list[str]:
    return list(dict.fromkeys(way.site for way in ways))


def _row(way: Way, noise: Noise, reference: Reference, fastest: float, tests: int) -> dict[str, Any]:
    time = statistics.median(noise.seconds) / fastest
    row: dict[str, Any] = {"site": way.site, "estimator": way.name}
    if way is reference.way:
        row |= {"bias": math.nan, "bias_error": math.nan, "verdict": "reference"}
    else:
        bias = bias_of(noise, reference.groups)
        verdict = bias.verdict(reference.length, tests, way.biased)
        row |= {"bias": bias.length, "bias_error": bias.error, "verdict": verdict}
    row |= {"variance": noise.variance, "variance_error": noise.variance_error}
    return row | {"time": time, "variance_time": noise.variance * time, "declared": way.biased}
