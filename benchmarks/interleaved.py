"""Timing several ways to do the same thing, in turns, so that a noisy machine disturbs all of them alike.

Convention of this module: what is kept of a round is each way's time as a ratio to the reference's in that round. The
ratio of any two ways in a round follows; medians and quartiles are taken over rounds at the very end. The order of the
ways shifts by one from round to round.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Ratio", "Rounds", "Way", "paired", "ratios", "summary"]

WARM_UP = 20
"""Calls before the first turn; the last few say how many calls make a turn."""
LONGEST_WARM_UP = 2.0
"""Seconds after which no more than the first few calls are made."""
TURN = 0.03
"""Seconds of a turn, about: long against the clock, short against the machine's moods."""
MOST_CALLS = 100

Rounds = dict[str, list[float]]
"""For each way its ratio to the reference in each round."""


class Ratio(NamedTuple):
    """A ratio over rounds: its lower quartile, its median and its upper quartile."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Way:
    """One way to make a training step.

    Attributes:
        step: Takes the step and waits for it; a training step gives its loss, in nats per datum, as a number.
        around: What a turn takes place in; entering and leaving it is not timed.
    """

    step: Callable[[], Any]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


def ratios(
    ways: Mapping[str, Way], reference: str, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Rounds:
    """Each way's time as a ratio to the reference's, round by round; ways that fail with a warning are left out.

    Args:
        ways: What to time, by name.
        reference: The name whose ratio is one.
        rounds: How many times each way has its turn.
        clock: Seconds since some moment.

    Example:
        >>> ways = {"first": Way(lambda: 0.0), "second": Way(lambda: 0.0)}
        >>> found = ratios(ways, "first", rounds=2)
        >>> found["first"], len(found["second"])
        ([1.0, 1.0], 2)
    """
    calls = {name: count for name, way in ways.items() if (count := _calls_in_a_turn(name, way, clock))}
    names, seconds = list(calls), {name: [0.0] * rounds for name in calls}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name][number] = _turn(ways[name], calls[name], clock)
    return {name: [a / b for a, b in zip(seconds[name], seconds[reference], strict=True)] for name in names}


def paired(rounds: Rounds, name: str, other: str) -> Ratio:
    """The ratio of one way to another, taken within each round.

    Example:
        >>> paired({"a": [1.0, 1.0, 1.0], "b": [2.0, 4.0, 8.0]}, "a", "b").median
        0.25
    """
    return summary([a / b for a, b in zip(rounds[name], rounds[other], strict=True)])


def summary(values: Sequence[float]) -> Ratio:
    """Median and quartiles.

    Example:
        >>> print(summary([3.0, 1.0, 2.0]))
        2.00 (1.50–2.50)
    """
    if len(values) == 1:
        return Ratio(values[0], values[0], values[0])
    return Ratio(*statistics.quantiles(values, n=4, method="inclusive"))


def _turn(way: Way, calls: int, clock: Callable[[], float]) -> float:
    """Seconds for one call."""
    with way.around():
        start = clock()
        for _ in range(calls):
            way.step()
        return (clock() - start) / calls


def _calls_in_a_turn(name: str, way: Way, clock: Callable[[], float]) -> int:
    """None at all for a way that is not what it says: whose first steps give a warning that counts as an error."""
    try:
        with way.around():
            start = clock()
            for number in range(WARM_UP - 5):
                if number < 5 or clock() - start < LONGEST_WARM_UP:
                    way.step()
    except Warning as reason:
        print(f"left out: {name}: {reason}", flush=True)
        return 0
    return max(1, min(MOST_CALLS, math.ceil(TURN / _turn(way, 5, clock))))
