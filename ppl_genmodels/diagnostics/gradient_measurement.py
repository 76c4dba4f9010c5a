"""Taking gradients in all ways that are compared, in turns, and the reference that their bias is measured against.

Convention of this module: the ways take turns call by call, so that what else the machine does disturbs all alike, and
a call has the same seed in every way. Reference runs have seeds of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_genmodels.diagnostics.enumeration import enumerated_gradient
from ppl_genmodels.diagnostics.gradient_noise import Noise, exact
from ppl_genmodels.diagnostics.gradient_ways import PATHWISE, Calls, Way, default_ways
from ppl_genmodels.errors import PplError, ProgramError
from ppl_genmodels.objectives.surrogate import estimator_of
from ppl_genmodels.structure import Node

__all__ = ["Measurement", "Reference"]

WARM_UP, PILOT_CALLS = 3, 30
LONGER = 4
"""A reference run has so many times the calls of the others."""

CANNOT = (PplError, NotImplementedError, RuntimeError, ValueError, IndexError)
"""What is raised where an estimator, or enumeration, cannot do with a program: it does not broadcast over particles."""

SHOWN, REFERENCE, PILOT = range(3)
"""Streams of seeds."""


@dataclass(frozen=True)
class Reference:
    """What a bias is measured against.

    Attributes:
        words: What it is.
        groups: The means of its groups of calls, shape (groups, D); one group for the exact gradient.
        way: The way of the table that it is a longer run of, or None.
    """

    words: str
    groups: Tensor
    way: Way | None = None

    @property
    def length(self) -> float:
        """The length of the gradient, noise taken off."""
        mean, count = self.groups.mean(0), len(self.groups)
        noise = self.groups.var(0).sum() / count if count > 1 else 0.0
        return float((mean.square().sum() - noise).clamp(min=0.0)) ** 0.5


@dataclass(frozen=True)
class Measurement:
    """How the ways are measured.

    Args:
        calls: Takes the gradients.
        latent: The latent sites of the guide.
        num_calls: Gradients of each way.
        seed: Of everything random.
    """

    calls: Calls
    latent: list[Node]
    num_calls: int
    seed: int

    def usable(self, ways: list[Way], given: bool) -> tuple[list[Way], dict[tuple[str, str], str]]:
        """The ways that work in this program, having learned what they learn; and why the others do not.

        Args:
            ways: All of them.
            given: Whether they were asked for, so that one that does not work is an error.
        """
        found, left_out = [], {}
        for way in ways:
            try:
                self.calls.gradient(way, self.seed)
            except CANNOT as error:
                if given:
                    raise
                left_out[way.site, way.name] = str(error)
            else:
                self.calls.learn(way, self.seed)
                found.append(way)
        return found, left_out

    def noise_of(self, ways: list[Way], calls: int | None = None, stream: int = SHOWN) -> dict[Way, Noise]:
        """The gradients of each way, taken in turns."""
        calls = self.num_calls if calls is None else calls
        seeds = self._seeds(stream, calls + WARM_UP)
        noise = {}
        for way in ways:
            first = [self.calls.gradient(way, seed)[0] for seed in seeds[calls:]]
            noise[way] = Noise(calls, torch.stack(first).mean(0))
        for number, seed in enumerate(seeds[:calls]):
            start = number % max(1, len(ways))
            for way in ways[start:] + ways[:start]:
                noise[way].add(*self.calls.gradient(way, seed))
        return noise

    def reference(self, site: str, ways: list[Way], noise: dict[Way, Noise], given: bool) -> Reference:
        """The exact gradient where it is to be had, else a long run of an unbiased way."""
        others = [node for node in self.latent if node["name"] != site]
        own = [estimator for node in others if (estimator := estimator_of(node)) is not None]
        found = None if any(estimator.biased for estimator in own) else self._enumerated()
        if found is not None:
            return Reference("enumeration", exact(found))
        way = self._least_noisy(site, ways, noise, given)
        length = LONGER * self.num_calls
        long_run = self.noise_of([way], length, REFERENCE)[way]
        return Reference(f"{length} calls of {way.name}", long_run.groups(), None if given else way)

    def _enumerated(self) -> Tensor | None:
        """The exact gradient, or None."""
        calls = self.calls
        try:
            found = enumerated_gradient(calls.program, calls.objective, calls.args, calls.kwargs, calls.of_guide)
        except CANNOT:
            return None
        return None if found is None else torch.cat([each.reshape(-1) for each in found])

    def _least_noisy(self, site: str, ways: list[Way], noise: dict[Way, Noise], given: bool) -> Way:
        """The pathwise gradient where it passes, else the unbiased estimator of this library with least variance."""
        if given:
            known = default_ways(node for node in self.latent if node["name"] == site)
            ways, _ = self.usable([way for way in known if not way.learns], given=False)
        here = [way for way in ways if way.site == site and not way.biased]
        if not here:
            raise ProgramError(f"site '{site}': no unbiased estimator serves it, so no bias can be measured there.")
        pathwise = [way for way in here if way.name == PATHWISE]
        if given and not pathwise:
            noise = self.noise_of(here, PILOT_CALLS, PILOT)
        return pathwise[0] if pathwise else min(here, key=lambda way: noise[way].variance)

    def _seeds(self, stream: int, count: int) -> list[int]:
        generator = torch.Generator().manual_seed(3 * self.seed + stream)
        found: list[int] = torch.randint(2**62, (count,), generator=generator).tolist()
        return found
