"""The fits that the two comparisons of Jang, Gu and Poole (2017) consist of.

Convention of this module: a case is a kind of units and an estimator; bounds are in nats per image,
of the program with discrete units; what is chosen is chosen on validation images, cut from the
training images, and the test images are looked at once, by the last weights.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _gumbel import Experiment, Units
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

import ppl_genmodels as ppl
from ppl_genmodels import as_program, data, inference

BATCH_SIZE = 100
TRAINING = 50_000
"""Images to train on, the first ones; the other 10,000 of the training images are for validation."""
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
SHORT = 10
"""A learning rate is tried for one in so many of the epochs."""
TRIED_IMAGES, TRIED_PARTICLES = 1000, 100
EVERY, PARTICLES = 5, 1000
"""Test images are evaluated one in so many, with so many draws."""
ORDER = (
    "Gumbel-Softmax",
    "straight-through Gumbel-Softmax",
    "straight-through",
    "annealed straight-through",
    "score function",
    "MuProp",
)
"""In which the estimators are run."""


@dataclass(frozen=True)
class Case:
    """A case with its result.

    Attributes:
        learning_rate: The one chosen.
        tried: For each learning rate the bound on validation images after a short fit; empty when it was taken over.
        curves: For each seed the objective on validation images after each epoch, at one draw.
        bounds: For each seed the bound on each test image, by many draws.
        one_draw: The same by one draw.
        seconds: What all of it took.
    """

    units: Units
    estimator: str
    learning_rate: float
    tried: dict[str, float]
    curves: list[list[float]]
    bounds: list[list[float]]
    one_draw: list[list[float]]
    seconds: float

    def loss(self, which: str = "bounds") -> list[Tensor]:
        """Minus the bound on each test image, one tensor for each seed."""
        return [-torch.tensor(values) for values in getattr(self, which)]


def images(folder: Path, split: str) -> Tensor:
    """Images (rows, 784), each pixel drawn once from its grey level: one draw for all runs."""
    seed = {"train": 0, "test": 1}[split]
    return torch.from_numpy(data.load(folder, split, binarize="sample", seed=seed).data)


def run(
    experiment: Experiment,
    options: Any,
    arrays: Callable[[Tensor], tuple[Tensor, ...]],
    names: Sequence[str] = ORDER,
    longer: int = 1,
    chosen: Sequence[Case] = (),
) -> list[Case]:
    """The cases of an experiment, those that were kept and those that are run now.

    Args:
        arrays: From images to the program's arguments.
        names: Of the estimators.
        longer: How many times the epochs that are asked for.
        chosen: Cases whose learning rates are taken over.
    """
    train, test = (images(options.data_dir / "mnist", split) for split in ("train", "test"))
    count = min(TRAINING, len(train) // 6 * 5)
    rows = {"train": train[:count], "validation": train[count:], "test": test[::EVERY]}
    prepared = {name: arrays(value) for name, value in rows.items()}
    asked = argparse.Namespace(**{**vars(options), "epochs": longer * options.epochs})
    rates = {(case.units, case.estimator): case.learning_rate for case in chosen}
    return [
        _kept(experiment, units, name, asked, prepared, rates.get((units, name)))
        for name in names
        for units in experiment.published
    ]


def _kept(
    experiment: Experiment, units: Units, name: str, options: Any, rows: dict[str, Any], rate: float | None
) -> Case:
    """A case from the folder of results, or else run and put there."""
    file = f"{experiment.name}-{options.epochs}-{options.seeds}-{units}-{name}.json".replace(" ", "-")
    path = None if options.results is None else options.results / file
    if path is not None and path.exists():
        return Case(**json.loads(path.read_text()))
    case = _case(experiment, units, name, options, rows, rate)
    losses = " and ".join(f"{torch.stack(case.loss(which)).mean():.2f}" for which in ("bounds", "one_draw"))
    print(f"{units}, {name}, rate {case.learning_rate:g}: {losses} in {case.seconds:.0f} s", flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(case)))
    return case


def _case(
    experiment: Experiment, units: Units, name: str, options: Any, rows: dict[str, Any], rate: float | None
) -> Case:
    began = time.monotonic()
    one = partial(_fit, experiment, units, name, rows, options.compile)
    few = tuple(array[:TRIED_IMAGES] for array in rows["validation"])
    short = max(1, options.epochs // SHORT)
    candidates = LEARNING_RATES if rate is None else ()
    tried = {one_of: _bound(one(one_of, short, 0), few, TRIED_PARTICLES) for one_of in candidates}
    best = rate if rate is not None else max(tried, key=lambda one_of: tried[one_of].mean().item())
    fits = [one(best, options.epochs, seed) for seed in range(options.seeds)]
    return Case(
        units,
        name,
        best,
        {f"{one_of:g}": bound.mean().item() for one_of, bound in tried.items()},
        [fitted.history["validation"].dropna().tolist() for fitted in fits],
        [_bound(fitted, rows["test"], PARTICLES).tolist() for fitted in fits],
        [_bound(fitted, rows["test"], 1).tolist() for fitted in fits],
        time.monotonic() - began,
    )


def _fit(
    experiment: Experiment,
    units: Units,
    name: str,
    rows: dict[str, Any],
    compile: Any,
    rate: float,
    epochs: int,
    seed: int,
) -> ppl.Fitted:
    """One fit by Adam, whose learning rate falls to 0 as a cosine."""
    steps = epochs * -(-len(rows["train"][0]) // BATCH_SIZE)
    torch.manual_seed(seed)
    program = as_program(experiment.build(units)).wrap(experiment.estimator(name, steps))
    return ppl.fit(
        program,
        rows["train"],
        objective=experiment.objective,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=rate, fused=True),
        callbacks=[inference.LearningRate(partial(CosineAnnealingLR, T_max=steps))],
        validation=rows["validation"],
        compile=compile,
        seed=seed,
        progress=False,
    )


def _bound(fitted: ppl.Fitted, rows: tuple[Tensor, ...], particles: int) -> Tensor:
    """The importance-weighted bound on each image with so many draws of discrete units, shape (images,)."""
    return fitted.log_evidence(rows, num_particles=particles).cpu()
