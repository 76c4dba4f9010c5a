"""The ways to make a training step, by the name that the tables show.

Convention of this module: a way is a function of a task; it gives None for a task that its library cannot state. A
library that is not installed has no way: the tables then show what is missing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

from benchmarks import library_ways, pyro_ways, torch_ways
from benchmarks.interleaved import Way
from benchmarks.tasks import Task

__all__ = ["LIBRARY", "NUMPYRO", "PIXYZ", "PYRO", "REFERENCE", "WAYS", "built", "installed"]

REFERENCE = "torch by hand"
PYRO = "Pyro, as its tutorials"
PIXYZ = "Pixyz"
NUMPYRO = "NumPyro, jitted"
LIBRARY = "ppl_genmodels"


def _pixyz(task: Task) -> Way | None:
    from benchmarks.pixyz_ways import pixyz_way

    return pixyz_way(task)


def _numpyro(task: Task) -> Way | None:
    from benchmarks.numpyro_ways import numpyro_way

    return numpyro_way(task)


WAYS: dict[str, Callable[[Task], Way | None]] = {
    REFERENCE: torch_ways.eager,
    "torch by hand, compiled": torch_ways.compiled,
    PYRO: pyro_ways.tutorial,
    "Pyro, one optimizer": pyro_ways.one_optimizer,
    "Pyro, its JIT": pyro_ways.jit,
    PIXYZ: _pixyz,
    NUMPYRO: _numpyro,
    f"{LIBRARY}, off": partial(library_ways.library_way, mode="off"),
    f"{LIBRARY}, trace": partial(library_ways.library_way, mode="trace"),
    f"{LIBRARY}, inductor": partial(library_ways.library_way, mode="inductor"),
    "torch by hand, medium products": torch_ways.reduced,
    f"{LIBRARY}, trace, medium products": partial(library_ways.library_way, mode="trace", matmul_precision="medium"),
    f"{LIBRARY}, inductor, medium products": partial(
        library_ways.library_way, mode="inductor", matmul_precision="medium"
    ),
}
"""In the order of the tables' rows."""

NEEDED = {PIXYZ: "pixyz", NUMPYRO: "numpyro"}
"""Packages that a way needs beside this library's own."""


def installed(name: str) -> bool:
    """Whether the library of a way is there.

    Example:
        >>> installed(REFERENCE)
        True
    """
    return name not in NEEDED or importlib.util.find_spec(NEEDED[name]) is not None


def built(task: Task, names: list[str] | None = None) -> dict[str, Way]:
    """The ways of a task that are to be had, each with its own copy of the program.

    Args:
        task: What is trained.
        names: Which ways; None for all.

    Example:
        >>> from benchmarks.tasks import vae
        >>> list(built(vae(9, 4, 2, rows=3), [REFERENCE, PYRO]))
        ['torch by hand', 'Pyro, as its tutorials']
    """
    made = {name: WAYS[name](task) for name in names or WAYS if installed(name)}
    return {name: way for name, way in made.items() if way is not None}
