"""Timing several ways to do the same thing, in turns, so that a noisy machine disturbs all of them alike.

Convention of this module: a way is a callable without arguments; its time is a median over rounds, and what is
reported is the median of its ratio to the reference within each round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["ratios"]


def ratios(
    ways: Mapping[str, Callable[[], object]], reference: str, rounds: int = 30, calls: int = 10, warm_up: int = 20
) -> dict[str, float]:
    """The median ratio of each way's time to the reference's.

    Args:
        ways: What to time, by name.
        reference: The name whose ratio is one.
        rounds: How many times each way has its turn.
        calls: Calls in a turn.
        warm_up: Calls before the first turn.

    Example:
        >>> found = ratios({"once": lambda: sum(range(2000)), "twice": lambda: sum(range(4000))}, "once")
        >>> 1.5 < found["twice"] < 3.0
        True
    """
    for way in ways.values():
        for _ in range(warm_up):
            way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(calls):
                way()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: statistics.median(own / base for own, base in zip(times, seconds[reference], strict=True))
        for name, times in seconds.items()
    }
