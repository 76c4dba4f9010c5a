"""What was aimed at, beside what was measured.

Convention of this module: a verdict is on the median; what was not measured in this run has none. The bounds were set
before anything here was measured, and a miss stays in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import denoisers, games
from benchmarks.flows import LIBRARIES
from benchmarks.flows import OURS as OUR_FLOWS
from benchmarks.growth import per_site
from benchmarks.interleaved import paired, summary
from benchmarks.table import markdown
from benchmarks.tasks import PUBLISHED, SMALL_VAE
from benchmarks.ways import LIBRARY, NUMPYRO, PIXYZ, PYRO, REFERENCE

__all__ = ["TARGETS", "Target", "verdicts"]

Results = dict[str, Any]
OURS = f"{LIBRARY}, inductor"
TRACED = f"{LIBRARY}, trace"
MEDIUM = f"{LIBRARY}, inductor, medium products"


@dataclass(frozen=True)
class Target:
    """A bound.

    Attributes:
        quantity: What is bounded, in words.
        bound: The largest value that meets it.
        part: The results that it is about.
        value: The value in that part; raises KeyError where there is none.
        unit: Of the value.
    """

    quantity: str
    bound: float
    part: str
    value: Callable[[Results], float]
    unit: str = ""

    def row(self, results: Results) -> list[str]:
        """The table's row."""
        asked = f"{self.bound:.2f}{self.unit}"
        if self.part not in results:
            return [self.quantity, asked, "not measured", ""]
        try:
            value = self.value(results[self.part])
        except KeyError:
            return [self.quantity, asked, "not to be had", ""]
        return [self.quantity, asked, f"{value:.2f}{self.unit}", "reached" if value <= self.bound else "**missed**"]


def verdicts(results: Results) -> str:
    """All targets as a table.

    Example:
        >>> verdicts({}).splitlines()[2].endswith("| not measured |  |")
        True
    """
    head = ["step of the lowered mode, unless another is named", "asked: at most", "here", ""]
    return markdown(head, [target.row(results) for target in TARGETS])


def _worst(other: str, cases: tuple[str, ...], way: str = OURS) -> Callable[[Results], float]:
    """The largest median ratio over some cases."""
    return lambda results: max(paired(results[case], way, other).median for case in cases)


def _first(way: str) -> Callable[[Results], float]:
    return lambda results: results[PUBLISHED[0]][way]["cold"]["first"]


def _longest(results: Results) -> float:
    return max(summary(ratios).median for case in results.values() for ratios in case.values())


def _neutral(mode: str) -> Callable[[Results], float]:
    """The largest median over the programs in a mode; raises KeyError where there is none."""

    def value(results: Results) -> float:
        cases = {case: rounds for case, rounds in results["neutral"].items() if case.endswith(f", {mode}")}
        if not cases:
            raise KeyError(mode)
        return max(summary(rounds["a neutral handler"]).median for rounds in cases.values())

    return value


def _flows(quantity: str) -> Callable[[Results], float]:
    """The largest median over all cases and other libraries."""

    def value(results: Results) -> float:
        pairs = [(rounds, peer) for rounds in results[quantity].values() for peer in rounds if peer in LIBRARIES]
        found = [paired(rounds, OUR_FLOWS, peer).median for rounds, peer in pairs if peer != OUR_FLOWS]
        if not found:
            raise KeyError(quantity)
        return max(found)

    return value


def _trained_denoiser(results: Results) -> float:
    """The largest median over all networks, lowered."""
    cases = results[denoisers.TRAINING].values()
    return max(paired(rounds, denoisers.LOWERED, denoisers.HAND).median for rounds in cases)


def _sampled(results: Results) -> float:
    """The largest median over all networks and samplers."""
    cases = [rounds for sampler in denoisers.SAMPLERS for rounds in results[sampler].values()]
    return max(paired(rounds, denoisers.OURS, denoisers.DIFFUSERS).median for rounds in cases)


def _played(results: Results) -> float:
    """The largest median over all games, lowered."""
    return max(paired(rounds, games.LOWERED, games.HAND).median for rounds in results.values())


TARGETS = (
    Target(f"published sizes, the worst of them, to {REFERENCE}", 0.95, "steps", _worst(REFERENCE, PUBLISHED)),
    Target("published sizes, the worst of them, to Pyro", 0.70, "steps", _worst(PYRO, PUBLISHED)),
    Target("published sizes, the worst of them, to Pixyz", 1.0, "steps", _worst(PIXYZ, PUBLISHED)),
    Target(
        "published sizes with medium products, the worst, to NumPyro", 1.0, "steps", _worst(NUMPYRO, PUBLISHED, MEDIUM)
    ),
    Target(f"small autoencoder to {REFERENCE}", 0.50, "steps", _worst(REFERENCE, (SMALL_VAE,))),
    Target("small autoencoder to Pyro", 0.15, "steps", _worst(PYRO, (SMALL_VAE,))),
    Target("small autoencoder to NumPyro", 1.0, "steps", _worst(NUMPYRO, (SMALL_VAE,))),
    Target("10 latent sites to Pyro", 0.15, "steps", _worst(PYRO, ("10 latent sites",))),
    Target("hierarchical regression to Pyro", 0.15, "steps", _worst(PYRO, ("hierarchical regression",))),
    Target(f"first traced step, {PUBLISHED[0]}", 1.0, "alone", _first(TRACED), " s"),
    Target(f"first lowered step, {PUBLISHED[0]}, nothing compiled before", 10.0, "alone", _first(OURS), " s"),
    Target('a fit with compile="auto" to an eager one, the worst of all lengths', 1.1, "short_fits", _longest),
    Target("a site among 100 to a site among 10, traced", 1.3, "growth", lambda results: per_site(results, TRACED)),
    Target("a site among 100 to a site among 10, lowered", 1.3, "growth", lambda results: per_site(results, OURS)),
    Target("a step with a neutral handler to one without, eager", 1.02, "estimators", _neutral("eager")),
    Target("a step with a neutral handler to one without, traced", 1.02, "estimators", _neutral("traced")),
    Target("log-density of a flow, the worst of all, to Zuko and normflows", 1.0, "flows", _flows("log_prob")),
    Target("draws of a flow, the worst of all, to Zuko and normflows", 1.0, "flows", _flows("draws")),
    Target("training step of a flow, eager, the worst, to Zuko and normflows", 1.0, "flows", _flows("training step")),
    Target(f"training step of a denoiser, the worst of all, to {REFERENCE}", 1.0, "denoisers", _trained_denoiser),
    Target("sampling with a denoiser, the worst of all, to diffusers", 1.0, "denoisers", _sampled),
    Target(f"step of a game, the worst of all, to {REFERENCE}", 1.0, "games", _played),
)
