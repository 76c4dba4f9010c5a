"""``compile="auto"`` decides by a clock; here the clock is set by hand, so that no real time enters."""

import pytest
import torch

from ppl_genmodels.inference import auto
from ppl_genmodels.inference.auto import TRIED, WORTH_TRACING, AutoGradient

FULL, LAST = torch.zeros(8, 2), torch.zeros(3, 2)


class Clock:
    """A clock that is moved on by what each step is said to take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(auto.time, "perf_counter", clock)
    return clock


def run(clock, steps, batches, eager=2.0, traced=1.0, tracing=100.0):
    """How each step was run, by a gradient whose steps take so long each way."""
    seen = []

    def compiled(args, kwargs, step, scale):
        if not any(replayed for _, replayed in seen):
            clock.now += tracing
        return torch.zeros(1)

    gradient = AutoGradient(compiled, steps)
    for step in range(steps):
        batch = batches(step)
        replayed = gradient((batch,), {}, step) is not None
        clock.now += traced if replayed else eager
        seen.append((len(batch), replayed))
    return seen


def test_a_long_run_is_traced_after_a_few_steps(clock):
    seen = run(clock, 1000, lambda step: FULL)
    assert [replayed for _, replayed in seen] == [False] * TRIED + [True] * (1000 - TRIED)


def test_a_short_run_is_not(clock):
    assert not any(replayed for _, replayed in run(clock, WORTH_TRACING, lambda step: FULL))


def test_what_is_slower_traced_goes_back(clock):
    replayed = [r for _, r in run(clock, 1000, lambda step: FULL, eager=1.0, traced=1.5)]
    assert TRIED <= sum(replayed) <= TRIED + 2
    assert not any(replayed[2 * TRIED + 2 :])


def test_a_layout_that_comes_seldom_stays_eager(clock):
    seen = run(clock, 1000, lambda step: LAST if step % 10 == 9 else FULL)
    assert not any(replayed for rows, replayed in seen if rows == len(LAST))
    assert all(replayed for rows, replayed in seen[2 * TRIED :] if rows == len(FULL))


def test_batches_that_are_all_different_stay_eager(clock):
    assert not any(r for _, r in run(clock, 600, lambda step: torch.zeros(step + 1, 2)))
