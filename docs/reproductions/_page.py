"""The page of reproductions: one section for each script, replaced whenever the script is run.

Convention of this module: a section lies between two comments that carry its name; what lies
outside of them is written by hand and left alone.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

PAGE = Path(__file__).resolve().parent.parent / "reproductions.md"
MINUTES = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120)


@dataclass(frozen=True)
class Row:
    """One thing that was published: its value there and here, and whether it was reached, or None
    where that cannot be said.
    """

    quantity: str
    published: str
    here: str
    reached: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "reached", False: "**missed**", None: ""}[self.reached]
        return f"| {self.quantity} | {self.published} | {self.here} | {verdict} |"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = "| quantity | published | here | |\n| --- | --- | --- | --- |"
    return "\n".join([head, *map(str, rows)])


def write_section(page: Path, name: str, text: str) -> None:
    """Puts ``text`` between the markers of ``name``, at the page's end when it has none yet."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n\n{text.strip()}\n\n{end}"
    content = page.read_text(encoding="utf-8") if page.exists() else "# Reproductions\n"
    if begin not in content:
        content = f"{content.rstrip()}\n\n{begin}{end}\n"
    before, _, rest = content.partition(begin)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(before + section + rest.partition(end)[2], encoding="utf-8")


def picture_path(page: Path, name: str) -> Path:
    """Where the picture of a section lies, beside the scripts; its folder is made."""
    folder = page.parent / "reproductions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.png"


def estimate(values: Sequence[Tensor]) -> str:
    """The mean of per-datum values with its standard errors.

    Args:
        values: One tensor of shape (data,) for each seed.

    Example:
        >>> estimate([torch.tensor([1.0, 3.0])])
        '2.0 ± 1.0 over test data'
        >>> estimate([torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0])])
        '2.5 ± 0.5 over 2 seeds, ± 1.0 over test data'
    """
    stacked = torch.stack(list(values))
    text = number(stacked.mean())
    if len(stacked) > 1:
        text += f" ± {standard_error(stacked.mean(1)):.1f} over {len(stacked)} seeds,"
    return f"{text} ± {standard_error(stacked.mean(0)):.1f} over test data"


def gap(first: Tensor, second: Tensor) -> str:
    """The difference of the means of two independent samples with its standard error."""
    error = math.hypot(standard_error(first), standard_error(second))
    return f"{number(first.mean() - second.mean())} ± {error:.1f}"


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of ``values``, shape (n,)."""
    return (values.std() / len(values) ** 0.5).item()


def number(value: Tensor | float) -> str:
    """One decimal, with a true minus sign."""
    return f"{float(value):.1f}".replace("-", "−")


def cost(seconds: float) -> str:
    """What the script took, as a bound, and on what.

    Example:
        >>> cost(400.0).split(" minutes on ")[0]
        'under 10'
    """
    bound = next((minutes for minutes in MINUTES if seconds < 60 * minutes), None)
    time = f"over {MINUTES[-1]} minutes" if bound is None else f"under {bound} minutes"
    where = f"{torch.get_num_threads()} of {os.cpu_count()} cores ({platform.machine()})"
    if torch.cuda.is_available():
        where += f" and one {torch.cuda.get_device_name()}"
    return f"{time} on {where}, torch {torch.__version__.partition('+')[0]}"


def arguments(script: str, epochs: int, seeds: int, results: bool = False) -> argparse.Namespace:
    """The command line that every script has; its description is the first line of the script's
    docstring. Torch is set to the threads asked for.

    Args:
        results: Whether the script keeps each finished fit, so that it can be stopped and go on.
    """
    parser = argparse.ArgumentParser(description=script.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--epochs", type=int, default=epochs, help="passes over the training data")
    parser.add_argument("--seeds", type=int, default=seeds, help="fits that differ in the seed")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write the section to")
    parser.add_argument("--threads", type=int, default=1, help="of torch; more pay on an idle machine")
    if results:
        kept = "folder that keeps each finished fit, where the same command goes on after a stop"
        parser.add_argument("--results", type=Path, help=kept)
        parser.add_argument("--compile", default="inductor", help="how a step is run: off, trace or inductor")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options
