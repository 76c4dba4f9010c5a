"""The step of every way for every case: the main table.

Convention of this module: the ratios of a case are to torch by hand, eager, in the same rounds.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from benchmarks.interleaved import Rounds, ratios
from benchmarks.machine import clock
from benchmarks.tasks import CASES, PUBLISHED
from benchmarks.ways import REFERENCE, built

__all__ = ["GROUPS", "measure"]

GROUPS = {
    "Published sizes": PUBLISHED,
    "Other models": tuple(name for name in CASES if name not in PUBLISHED),
}
"""The cases that share a table."""


def measure(rounds: int, device: str, cases: Iterable[str]) -> dict[str, Rounds]:
    """The ratios of every case."""
    found = {}
    for name in cases:
        print(f"timing {name} ...", flush=True)
        found[name] = ratios(built(CASES[name](device=device)), REFERENCE, rounds, clock(device))
        torch._dynamo.reset()
    return found
