"""Results as tables of Markdown.

Convention of this module: a cell is a median with its quartiles, rows are ways, a dash stands for what a library cannot
do or what is not installed. Below one is faster, or smaller, than what the first row's head says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import denoisers as denoising
from benchmarks.alone import Alone
from benchmarks.estimator_programs import PROGRAMS
from benchmarks.estimators import MODES, PLAIN
from benchmarks.flows import LIBRARIES, OURS, QUANTITIES, TRAINING
from benchmarks.games import HAND
from benchmarks.growth import AXES, Grown, per_site
from benchmarks.growth import WAYS as GROWN_WAYS
from benchmarks.interleaved import Rounds, summary
from benchmarks.short_fits import STEPS, Fits
from benchmarks.steps import GROUPS
from benchmarks.ways import REFERENCE, WAYS

__all__ = [
    "denoisers",
    "estimators",
    "flows",
    "games",
    "growth",
    "markdown",
    "memory",
    "products",
    "short_fits",
    "start_up",
    "steps",
]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its first column is text, the others are aligned right.

    Example:
        >>> print(markdown(["way", "ratio"], [["first", "1.00"]]))
        | way | ratio |
        | --- | ---: |
        | first | 1.00 |
    """
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def steps(found: Mapping[str, Rounds]) -> str:
    """A table for each group of cases, with the cases that were timed."""
    tables = []
    for group, members in GROUPS.items():
        cases = [case for case in members if case in found]
        rows = [[way, *(_cell(found[case], way) for case in cases)] for way in WAYS]
        if cases:
            shown = [row for row in rows if set(row[1:]) != {"–"}]
            tables.append(f"{group}:\n\n{markdown([f'step, {REFERENCE} = 1', *cases], shown)}")
    return "\n\n".join(tables)


def products(found: Rounds) -> str:
    """The product alone."""
    return markdown(
        ["product, torch in float32 = 1", "128x784 by 784x400"], [[way, _cell(found, way)] for way in found]
    )


def start_up(found: Alone) -> str:
    """The first step: in seconds, and in steps of torch by hand."""
    head = ["first step", *(f"{case}, {state}" for case in found for state in ("cold", "warm"))]
    rows = [[way, *(_first(found[case], way, state) for case in found for state in ("cold", "warm"))] for way in WAYS]
    return markdown(head, [row for row in rows if set(row[1:]) != {"–"}])


def memory(found: Alone) -> str:
    """The peak: of the whole process, and what the program and its training added to the imports."""
    head = [f"memory at its peak, {REFERENCE} = 1", *(f"{case}, {part}" for case in found for part in ("all", "added"))]
    rows = [[way, *(cell for case in found for cell in _peak(found[case], way))] for way in WAYS]
    return markdown(head, [row for row in rows if set(row[1:]) != {"–"}])


def growth(found: Grown) -> str:
    """A table for each axis; sites have a last column, the time of one among 100 against one among 10."""
    tables = []
    for name, axis in AXES.items():
        head = [f"step, {REFERENCE} at {axis.base} = 1", *(f"{size} {name}" for size in axis.sizes)]
        rows = [[way, *(_cell(found[name], f"{way} @ {size}") for size in axis.sizes)] for way in GROWN_WAYS]
        if name == "latent sites":
            head.append("per site, 100 against 10")
            rows = [[*row, "–" if row[-1] == "–" else f"{per_site(found, row[0]):.2f}"] for row in rows]
        tables.append(markdown(head, rows))
    return "\n\n".join(tables)


def short_fits(found: Fits) -> str:
    """Whole fits, ``auto`` against ``off``."""
    lengths = [str(steps) for steps in STEPS]
    rows = [[case, *(_cell(found[case], steps) for steps in lengths)] for case in found]
    return markdown(['fit, compile="off" = 1', *(f"{steps} steps" for steps in lengths)], rows)


def estimators(found: Mapping[str, Mapping[str, Rounds]]) -> str:
    """A table of handlers for each program, and one of the neutral handler."""
    tables = []
    for program, rounds in found["steps"].items():
        names = list(dict.fromkeys(way.rpartition(", ")[0] for way in rounds))
        rows = [[name, *(_cell(rounds, f"{name}, {mode}") for mode in MODES)] for name in names]
        plain = f"{PLAIN} ({PROGRAMS[program].plain})" if program in PROGRAMS else PLAIN
        tables.append(f"{program}:\n\n{markdown([f'step, {plain}, eager = 1', *MODES], rows)}")
    rows = [
        [case, *(_precise(rounds[way]) for way in rounds if way != PLAIN)] for case, rounds in found["neutral"].items()
    ]
    head = ["step without it = 1, with the standard error", "a neutral handler", "the same again"]
    return "\n\n".join([*tables, f"A handler that selects no site:\n\n{markdown(head, rows)}"])


def flows(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of log-densities and draws, one of training steps, and one of what the flows have in common."""
    peers = [name for name in LIBRARIES if name != OURS]
    head = [f"{OURS} = 1", *(f"{quantity}, {peer}" for quantity in QUANTITIES for peer in peers)]
    columns = [(quantity, peer) for quantity in QUANTITIES for peer in peers]
    cases = list(found["parameters"])
    rows = [[case, *(_cell(found[each].get(case, {}), peer) for each, peer in columns)] for case in cases]
    ways = [way for way in dict.fromkeys(way for case in found[TRAINING].values() for way in case) if way != OURS]
    steps = [[case, *(_cell(found[TRAINING][case], way) for way in ways)] for case in cases]
    sizes = [[case, *(_count(found["parameters"][case], name) for name in LIBRARIES)] for case in cases]
    sizes += [
        [f"{case}, evaluations", *(_count(counts, name) for name in LIBRARIES)]
        for case, counts in found["evaluations"].items()
    ]
    return "\n\n".join(
        [
            f"Without gradients:\n\n{markdown(head, rows)}",
            f"Steps of maximum likelihood:\n\n{markdown([f'{OURS}, eager = 1', *ways], steps)}",
            f"What was compared:\n\n{markdown(['parameters', *LIBRARIES], sizes)}",
        ]
    )


def denoisers(found: Mapping[str, Mapping[str, Rounds]]) -> str:
    """A table of training steps, and one of sampling."""
    cases = list(found[denoising.TRAINING])
    ways = dict.fromkeys(way for rounds in found[denoising.TRAINING].values() for way in rounds)
    names = [way for way in ways if way != denoising.HAND]
    steps = [[case, *(_cell(found[denoising.TRAINING][case], way) for way in names)] for case in cases]
    draws = [
        [case, *(_cell(found[sampler][case], denoising.DIFFUSERS) for sampler in denoising.SAMPLERS)] for case in cases
    ]
    return "\n\n".join(
        [
            f"Training steps:\n\n{markdown([f'step, {denoising.HAND} = 1', *names], steps)}",
            f"Sampling:\n\n{markdown([f'{denoising.DIFFUSERS}, {denoising.OURS} = 1', *denoising.SAMPLERS], draws)}",
        ]
    )


def games(found: Mapping[str, Rounds]) -> str:
    """A table of steps of both players."""
    names = [way for way in dict.fromkeys(way for rounds in found.values() for way in rounds) if way != HAND]
    rows = [[case, *(_cell(rounds, way) for way in names)] for case, rounds in found.items()]
    return markdown([f"step of both players, {HAND} = 1", *names], rows)


def _count(counts: Mapping[str, int], name: str) -> str:
    return f"{counts[name]:,}" if name in counts else "–"


def _precise(values: Sequence[float]) -> str:
    """A median with its standard error, for ratios near to one."""
    low, median, high = summary(values)
    return f"{median:.4f} ± {1.253 * (high - low) / 1.349 / len(values) ** 0.5:.4f}"


def _cell(rounds: Rounds, way: str) -> str:
    return str(summary(rounds[way])) if way in rounds else "–"


def _first(case: Mapping[str, Mapping[str, Mapping[str, float]]], way: str, state: str) -> str:
    if way not in case:
        return "–"
    seconds = case[way][state]["first"]
    return f"{seconds:.2f} s ({seconds / case[REFERENCE]['warm']['step']:,.0f})"


def _peak(case: Mapping[str, Mapping[str, Mapping[str, float]]], way: str) -> tuple[str, str]:
    if way not in case:
        return "–", "–"
    own, reference = case[way]["warm"], case[REFERENCE]["warm"]
    added = (own["memory"] - own["memory_before"]) / (reference["memory"] - reference["memory_before"])
    return f"{own['memory'] / reference['memory']:.2f}", f"{added:.2f}"
