"""Text as rows of characters: its parts, Markov chains of it, and how far rows are from it by their n-grams.

Convention of this module: a row is `LENGTH` numbers of characters; divergences are in nats, for n-grams of 1 to 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot
from torch import Tensor

from ppl_genmodels import diagnostics

LENGTH = 32
GRAMS = (1, 2, 3, 4)
ORDERS = (0, 1, 2, 3)
"""Of the Markov chains."""
STRIDE = 8
"""Characters between the beginnings of two training rows."""


@dataclass(frozen=True)
class Text:
    """A text in two parts.

    Attributes:
        alphabet: Its characters, by their numbers.
        characters: The training part, one after another, shape (characters,).
        training: Windows of it, shape (rows, LENGTH).
        held_out: The rest, cut into rows, shape (rows, LENGTH).
    """

    alphabet: str
    characters: Tensor
    training: Tensor
    held_out: Tensor

    @classmethod
    def read(cls, path: Path) -> Text:
        """Nine tenths to train on, the last one held out."""
        text = path.read_text(encoding="utf-8")
        alphabet = "".join(sorted(set(text)))
        numbers = torch.tensor([alphabet.index(each) for each in text])
        cut = len(numbers) * 9 // 10
        windows = numbers[:cut].unfold(0, LENGTH, STRIDE).contiguous()
        return cls(alphabet, numbers[:cut], windows, numbers[cut:].unfold(0, LENGTH, LENGTH).contiguous())

    def sample_of_training(self) -> Tensor:
        """As many training rows as are held out."""
        chosen = torch.randperm(len(self.training), generator=torch.Generator().manual_seed(0))
        return self.training[chosen[: len(self.held_out)]]


def divergences(rows: Tensor, text: Text) -> list[float]:
    """From the held-out text, for each length of n-grams."""
    return [diagnostics.ngram_divergence(rows, text.held_out, n) for n in GRAMS]


def spelled(rows: Tensor, text: Text) -> list[str]:
    """Rows as strings, with a sign for a new line."""
    return ["".join(text.alphabet[each] for each in row).replace("\n", "⏎") for row in rows.tolist()]


def chain_rows(text: Text, order: int) -> Tensor:
    """As many rows as are held out, from a Markov chain whose next character is one that followed in training text."""
    random = np.random.default_rng(0)
    known = text.characters.numpy()
    follows = _places(known, order)
    rows = []
    for start in random.integers(len(known) - LENGTH, size=len(text.held_out)):
        row = known[start : start + order].tolist()
        while len(row) < LENGTH:
            places = follows[tuple(row[len(row) - order :])]
            row.append(int(known[places[random.integers(len(places))]]))
        rows.append(row)
    return torch.tensor(rows)


def chain_name(order: int) -> str:
    """What rows of a Markov chain are called."""
    return f"Markov chain of order {order}" if order else "characters one by one, by their shares"


def _places(known: Any, order: int) -> dict[tuple[int, ...], list[int]]:
    """For each context the places of what follows it; the text goes round, so that every context has one."""
    found: dict[tuple[int, ...], list[int]] = {}
    characters = known.tolist()
    for end in range(len(characters)):
        context = tuple(characters[end - back] for back in range(order, 0, -1))
        found.setdefault(context, []).append(end)
    return found


def draw(path: Path, courses: Mapping[str, Any], chains: Mapping[int, list[float]], floor: list[float]) -> None:
    """The divergence over the steps, a panel for each length of n-grams."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(1, len(GRAMS), figsize=(12.0, 3.4), layout="constrained", sharey=True)
        for number, (n, axes) in enumerate(zip(GRAMS, panels, strict=True)):
            for (name, course), colour in zip(courses.items(), diagnostics.style.PALETTE, strict=False):
                axes.plot(course.steps, [each[number] for each in course.divergences], color=colour, label=name)
            for order, dashes in ((0, ":"), (1, "-."), (2, "--")):
                line = {"color": "#717581", "linestyle": dashes, "linewidth": 1}
                axes.axhline(chains[order][number], label=chain_name(order), **line)
            axes.axhline(floor[number], color="#717581", linewidth=1, label="training text")
            axes.set(title=f"{n}-grams", xlabel="step of the program", ylim=(0, 0.72))
        panels[0].set_ylabel("divergence from held-out text, nats")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(path, dpi=diagnostics.style.RESOLUTION)
        pyplot.close(figure)
