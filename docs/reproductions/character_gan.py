"""Characters of Shakespeare by a generative adversarial network, with softmax and with Gumbel-Softmax output.

Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville (2017), Improved Training of Wasserstein GANs, section 5.4: rows of
32 characters from a continuous generator, judged by a critic that sees one-hot data beside the generator's softmax.
Kusner and Hernández-Lobato (2016) relax draws by Gumbel-Softmax instead.

    make reproduce NAME=character-gan DATA_DIR=folder-that-holds-tinyshakespeare
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _characters import GRAMS, LENGTH, ORDERS, Text, chain_name, chain_rows, divergences, draw, spelled
from _page import PAGE, Row, cost, picture_path, table, write_section
from torch.optim.lr_scheduler import CosineAnnealingLR

import ppl_genmodels as ppl
from ppl_genmodels.inference import EMA, Callback, LearningRate
from ppl_genmodels.models import SymbolGAN

NAME = "character-gan"
SIZES: dict[str, Any] = {"latent_dim": 128, "width": 64, "blocks": 3, "kernel": 5}
OUTPUTS: dict[str, dict[str, Any]] = {
    "softmax": {"output": "softmax"},
    "gumbel": {"output": "gumbel", "temperature": 1.0, "last_temperature": 0.5},
}
CALLED = {"softmax": "softmax", "gumbel": "Gumbel-Softmax"}
STEPS, EVERY, BATCH_SIZE = 1800, 100, 64
RATE, CRITIC_RATE, CRITIC_STEPS = 5e-4, 1e-3, 5
DECAY = 0.99
"""Of the average of the generator's weights."""
SHOWN = 12


@dataclass(frozen=True)
class Course:
    """What became of one fit.

    Attributes:
        steps: When it was looked at.
        divergences: At each time, for n-grams of 1 to 4 symbols, in nats.
        samples: The first rows drawn at the end.
        seconds: Of processor time that it took.
    """

    steps: list[int]
    divergences: list[list[float]]
    samples: list[str]
    seconds: float


class Look(Callback):
    """Compares what the averaged program draws with the held-out text, at the ends and every so many steps."""

    def __init__(self, text: Text, average: EMA) -> None:
        self.text, self.average = text, average
        self.steps, self.found = list[int](), list[list[float]]()

    def on_start(self, training: Any) -> None:
        """Before the first step."""
        self._look(training)

    def after_step(self, training: Any) -> None:
        """Every so many steps, and more often at first."""
        if training.step % EVERY == 0 or training.step in (EVERY // 10, EVERY // 4, EVERY // 2):
            self.average.before_validation(training)
            self._look(training)
            self.average.after_validation(training)

    def on_end(self, training: Any) -> None:
        """At the end, when the average is in the program."""
        if self.steps[-1] != training.step:
            self._look(training)

    def _look(self, training: Any) -> None:
        self.steps.append(training.step)
        self.found.append(divergences(drawn(training.program.source, len(self.text.held_out)), self.text))
        print(training.step, *(f"{each:.3f}" for each in self.found[-1]), flush=True)


def main() -> None:
    """Fits, or takes what was fitted, and once both are there draws and writes the section."""
    options = _options()
    torch.set_num_threads(options.threads)
    text = Text.read(options.data_dir / "tinyshakespeare" / "input.txt")
    found = {name: kept_or_fitted(name, text, options) for name in OUTPUTS if options.only in (None, name)}
    if options.results is not None:
        found |= {name: _read(_path(options, name)) for name in OUTPUTS if _path(options, name).exists()}
    if len(found) < len(OUTPUTS):
        return
    chains = {order: divergences(chain_rows(text, order), text) for order in ORDERS}
    floor = divergences(text.sample_of_training(), text)
    courses = {CALLED[name]: found[name] for name in OUTPUTS}
    draw(picture_path(options.page, "character_gan"), courses, chains, floor)
    write_section(options.page, NAME, section(courses, chains, floor, text, options))


def kept_or_fitted(name: str, text: Text, options: argparse.Namespace) -> Course:
    """One fit, read from the folder of results where it is there."""
    if options.results is not None and _path(options, name).exists():
        return _read(_path(options, name))
    course = fitted(name, text, options)
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        _path(options, name).write_text(json.dumps(asdict(course)), encoding="utf-8")
    return course


def fitted(name: str, text: Text, options: argparse.Namespace) -> Course:
    """One fit."""
    began, average = time.process_time(), EMA(DECAY)
    look = Look(text, average)
    torch.manual_seed(0)
    played = {"critic_steps": CRITIC_STEPS, "critic_rate": CRITIC_RATE, "annealing_steps": options.steps}
    program = SymbolGAN(LENGTH, len(text.alphabet), **SIZES, **played, **OUTPUTS[name])
    ppl.fit(
        program,
        text.training,
        steps=options.steps,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=RATE, betas=(0.5, 0.9), fused=True),
        callbacks=[average, look, LearningRate(partial(CosineAnnealingLR, T_max=options.steps))],
        compile=options.compile,
        progress=False,
    )
    samples = spelled(drawn(program, SHOWN), text)
    return Course(look.steps, look.found, samples, time.process_time() - began)


def drawn(program: SymbolGAN, rows: int) -> torch.Tensor:
    """Rows of symbols, the same noise at each time, and the random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return program.generate(rows)


def rows_of(courses: Mapping[str, Course], chains: Mapping[int, list[float]], floor: list[float]) -> list[Row]:
    """What was asked, and what is only told."""
    rows = []
    for name, course in courses.items():
        steps = course.steps[-1]
        first, last = course.divergences[0], course.divergences[-1]
        early = next(found for step, found in zip(course.steps, course.divergences, strict=True) if step >= steps / 5)
        rows.append(Row(f"{name}: untrained", "no number", _listed(first)))
        further = _named([now < then for now, then in zip(last, early, strict=True)])
        rows.append(Row(f"{name}: after a fifth of the steps", "no number", f"{_listed(early)}; later {further}"))
        falls = all(now < then for now, then in zip(last, first, strict=True))
        rows.append(Row(f"{name}: at the end", "asked: all four fall over training", _listed(last), falls))
    rows.append(Row("as many rows of training text: what is left by chance", "", _listed(floor)))
    rows += [Row(chain_name(order), "", _listed(chains[order])) for order in ORDERS]
    return rows


def section(
    courses: Mapping[str, Course],
    chains: Mapping[int, list[float]],
    floor: list[float],
    text: Text,
    options: argparse.Namespace,
) -> str:
    """The section of the page."""
    steps = next(iter(courses.values())).steps[-1]
    shown = "\n\n".join(f"{name}:\n\n```\n{chr(10).join(course.samples)}\n```" for name, course in courses.items())
    spent = cost(sum(course.seconds for course in courses.values()))
    return f"""
## Characters by a generative adversarial network

Gulrajani and others (2017), *Improved Training of Wasserstein GANs*, section 5.4: rows of {LENGTH} characters from a
generator of one-dimensional residual convolutions, whose softmax the critic sees beside one-hot data; Kusner and
Hernández-Lobato (2016), *GANs for Sequences of Discrete Elements with the Gumbel-softmax Distribution*, for draws that
are relaxed. The first paper shows samples after 200,000 steps of networks eight times as wide; the code that was
published with it watches training by the divergence of n-grams, which falls. That is asked for here.

```
make reproduce NAME={NAME} ARGS='--steps {steps} --threads {options.threads} --compile {options.compile}'
```

Jensen-Shannon divergence of the 1-, 2-, 3- and 4-grams of {len(text.held_out):,} rows from those of as many rows of
held-out text, in nats (at most log 2 = 0.693):

{table(rows_of(courses, chains, floor))}

![Divergence of n-grams over training](reproductions/character_gan.png)

The first {SHOWN} rows that each program drew at the end, ⏎ for a new line:

{shown}

- **Data**: tiny Shakespeare, {len(text.alphabet)} characters. The first nine tenths are training text, windows of
  {LENGTH} characters that begin at every eighth; the last tenth, cut into rows, is held out.
- **Networks**: generator and critic have {SIZES["blocks"]} residual blocks of two convolutions over {SIZES["kernel"]}
  places, {SIZES["width"]} channels wide; {SIZES["latent_dim"]} latent variables.
- **Training**: {steps:,} steps, each after {CRITIC_STEPS} of the critic, in batches of {BATCH_SIZE}; gradient
  penalty 10; Adam at {RATE:g}, falling to 0 as a cosine, and at {CRITIC_RATE:g} for the critic, where the paper has
  0.0001 for both and 10 steps of the critic. Rows are drawn by an exponential average of the generator's weights
  (decay {DECAY:g}). The temperature of Gumbel-Softmax falls from 1 to 0.5.
- **Generation**: by softmax the likeliest character at each place, as in the published code; by Gumbel-Softmax a draw.
  Divergences have the same noise at every time. The Markov chains are fitted to the training text.
- **Cost**: {spent}, of processor time, for both fits.
"""


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _named(fallen: list[bool]) -> str:
    """Which lengths of n-grams have fallen."""
    lengths = [f"{n}-grams" for n, fell in zip(GRAMS, fallen, strict=True) if fell]
    return f"lower for {', '.join(lengths) or 'none'}"


def _path(options: argparse.Namespace, name: str) -> Path:
    path: Path = options.results / f"{name}.json"
    return path


def _read(path: Path) -> Course:
    return Course(**json.loads(path.read_text(encoding="utf-8")))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each program")
    parser.add_argument("--only", choices=list(OUTPUTS), help="fit one of the two; both are needed for the page")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write the section to")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--results", type=Path, help="folder that keeps each finished fit")
    parser.add_argument("--compile", default="trace", help="how a step is run: off, trace or inductor")
    return parser.parse_args()


if __name__ == "__main__":
    main()
