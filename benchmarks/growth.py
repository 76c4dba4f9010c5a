"""The growth of a step with latent sites, particles and rows.

Convention of this module: all sizes and ways of one axis take turns in the same rounds, and every ratio is to torch by
hand at the axis's middle size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.interleaved import Rounds, Way, paired, ratios, summary
from benchmarks.machine import clock
from benchmarks.tasks import Task, chain, vae
from benchmarks.ways import LIBRARY, PYRO, REFERENCE, built

__all__ = ["AXES", "WAYS", "Axis", "Grown", "lines", "measure", "per_site"]

WAYS = [REFERENCE, PYRO, f"{LIBRARY}, off", f"{LIBRARY}, trace", f"{LIBRARY}, inductor"]

Grown = dict[str, Rounds]
"""For each way and size, named ``"way @ size"``, its ratio in each round; by axis."""


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        task: The task of a size.
        sizes: From small to large.
        base: The size at which the reference's ratio is one.
    """

    task: Callable[..., Task]
    sizes: tuple[int, ...]
    base: int


AXES = {
    "latent sites": Axis(chain, (1, 3, 10, 30, 100), 10),
    "particles": Axis(lambda n, **options: vae(64, 32, 10, rows=32, particles=n, **options), (1, 10, 100, 1000), 1),
    "rows": Axis(lambda n, **options: vae(64, 32, 10, rows=n, **options), (8, 32, 128, 512, 2048, 8192), 32),
}
"""The chain of ``programs.Chain``, 32 rows; and twice the small autoencoder, 32 rows or one particle."""


def measure(rounds: int, device: str) -> Grown:
    """The ratios of every axis."""
    return {name: _along(name, axis, rounds, device) for name, axis in AXES.items()}


def _along(name: str, axis: Axis, rounds: int, device: str) -> Rounds:
    ways: dict[str, Way] = {}
    for size in axis.sizes:
        print(f"compiling for {size} {name} ...", flush=True)
        made = built(axis.task(size, device=device), WAYS)
        ways |= {f"{way} @ {size}": step for way, step in made.items()}
    return ratios(ways, f"{REFERENCE} @ {axis.base}", rounds, clock(device))


def per_site(grown: Grown, way: str, many: int = 100, few: int = 10) -> float:
    """A site's time among many sites as a multiple of a site's time among few, the median over rounds.

    Example:
        >>> per_site({"latent sites": {"a @ 100": [20.0], "a @ 10": [1.0]}}, "a")
        2.0
    """
    return paired(grown["latent sites"], f"{way} @ {many}", f"{way} @ {few}").median * few / many


def lines(rounds: Rounds, axis: Axis) -> dict[str, list[float]]:
    """For each way its median ratio at each size; not a number where it was not to be had."""
    nothing = [math.nan]
    return {way: [summary(rounds.get(f"{way} @ {size}", nothing)).median for size in axis.sizes] for way in WAYS}
