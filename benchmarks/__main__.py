"""``python -m benchmarks``: measures everything in one run, prints the tables, and writes them to a folder."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import described, interleaved, pin

PARTS = ("steps", "products", "alone", "short_fits", "growth", "estimators", "flows", "denoisers", "games")
ON_CPU = ("estimators", "flows", "denoisers", "games")
"""Parts that are measured there whatever the device."""


def main() -> None:
    """Measures and prints."""
    options = arguments().parse_args()
    pin(options.threads)  # before torch and JAX are imported, which look at the cores they have

    import pyro
    import torch

    from benchmarks import report

    torch.set_num_threads(options.threads)
    with pyro.validation_enabled(False), warnings.catch_warnings():
        quieten()
        results = measure(options.only, options.rounds, options.device)
    for name, text in report.printed(results).items():
        print(f"\n{name}\n\n{text}")
    print(f"\n{next(iter(results['machine'].values()))}")
    if options.out is not None:
        report.write(results, options.out)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Training steps as ratios to torch written by hand, in one run.")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each way")
    parser.add_argument("--threads", type=int, default=1, help="cores for every library alike")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"{', '.join(PARTS)}, or a case")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for tables, pictures and all results as JSON; parts not measured now keep theirs",
    )
    return parser


def quieten() -> None:
    """Hides the libraries' warnings, but for one: a step that could not be compiled is not what is timed."""
    from ppl_genmodels.inference import CompileWarning

    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", CompileWarning)


def measure(only: list[str], rounds: int, device: str) -> dict[str, Any]:
    """The parts that were asked for; all of them by default.

    Raises:
        SystemExit: When a name is neither a part nor a case.
    """
    from benchmarks import alone, denoisers, estimators, flows, games, growth, products, short_fits, steps
    from benchmarks.tasks import CASES

    unknown = set(only) - {*PARTS, *CASES}
    if unknown:
        raise SystemExit(f"--only is one of {', '.join([*PARTS, *CASES])}; got {', '.join(sorted(unknown))}.")
    cases = [name for name in CASES if not only or "steps" in only or name in only]
    parts: dict[str, Callable[[], Any]] = {
        "steps": lambda: steps.measure(rounds, device, cases),
        "products": lambda: products.measure(rounds, device),
        "alone": lambda: alone.measure(device),
        "short_fits": lambda: short_fits.measure(device),
        "growth": lambda: growth.measure(_fewer(rounds), device),
        "estimators": lambda: estimators.measure(_fewer(rounds)),
        "flows": lambda: flows.measure(_fewer(rounds)),
        "denoisers": lambda: denoisers.measure(_fewer(rounds)),
        "games": lambda: games.measure(_fewer(rounds)),
    }
    wanted = [part for part in PARTS if not only or part in only or (part == "steps" and cases)]
    found = {part: parts[part]() for part in wanted}
    how = {
        "alone": "Once, in processes of their own, by the wall's clock",
        "short_fits": f"Medians over {short_fits.ROUNDS} rounds, in processes of their own, by the wall's clock",
        "growth": interleaved(device, _fewer(rounds)),
        "estimators": interleaved("cpu", _fewer(rounds)),
        "flows": interleaved("cpu", _fewer(rounds)),
        "denoisers": interleaved("cpu", _fewer(rounds)),
        "games": interleaved("cpu", _fewer(rounds)),
    }
    machine = {
        part: described("cpu" if part in ON_CPU else device, how.get(part, interleaved(device, rounds)))
        for part in found
    }
    return {"machine": machine} | found


def _fewer(rounds: int) -> int:
    """For growth, handlers, flows, denoisers and games, which are many and differ by large ratios."""
    return -(-rounds // 3)


if __name__ == "__main__":
    main()
