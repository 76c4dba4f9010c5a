"""A step of a categorical autoencoder with each gradient estimator, in each mode.

Convention of this module: one program, one batch size, one particle; ratios are to the score function without a
baseline, run eagerly. The estimators that sum over values run the program once for each other value of each site.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from pathlib import Path
from typing import Any

from benchmarks.machine import clock, interleaved, pin

__all__ = ["MODES", "REFERENCE", "measure"]

REFERENCE = "score function, eager"
MODES = {"eager": "off", "traced": "trace", "lowered": "inductor"}
ROWS, DATA, SITES, CLASSES = 32, 64, 10, 10


def estimators() -> dict[str, Any]:
    """The estimators by name."""
    from ppl_genmodels import handlers

    return {
        "score function": handlers.ScoreFunction(baseline="none"),
        "score function, leave one out": handlers.ScoreFunction(),
        "score function, running mean": handlers.ScoreFunction(baseline="running_mean"),
        "straight-through": handlers.StraightThrough(),
        "Gumbel-Softmax": handlers.GumbelSoftmax(density="categorical"),
        "Gumbel-Softmax, hard": handlers.GumbelSoftmax(density="categorical", hard=True),
        "local expectation": handlers.LocalExpectation(),
        "reparameterize and marginalize": handlers.ReparameterizeAndMarginalize(),
    }


def program() -> Any:
    """An autoencoder whose latents are one-hot vectors."""
    import pyro
    import pyro.distributions as dist
    import torch
    from torch import nn

    from ppl_genmodels.networks import MLP

    class Categorical(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = MLP(DATA, SITES * CLASSES, (32,))
            self.decoder = MLP(SITES * CLASSES, DATA, (32,))

        def model(self, x: torch.Tensor) -> None:
            with pyro.plate("data", len(x)):
                prior = dist.OneHotCategorical(logits=x.new_zeros(len(x), SITES, CLASSES)).to_event(1)
                z = pyro.sample("z", prior)
                logits = self.decoder(z.flatten(-2))
                pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

        def guide(self, x: torch.Tensor) -> None:
            with pyro.plate("data", len(x)):
                logits = self.encoder(x).unflatten(-1, (SITES, CLASSES))
                pyro.sample("z", dist.OneHotCategorical(logits=logits).to_event(1))

    torch.manual_seed(0)
    return Categorical()


def measure(rounds: int) -> Any:
    """The rounds of every estimator in every mode."""
    import torch

    from benchmarks.interleaved import Way, ratios
    from ppl_genmodels import as_program, objectives
    from ppl_genmodels.inference import compile_step

    ways = {}
    for (name, estimator), (mode, option) in itertools.product(estimators().items(), MODES.items()):
        made = as_program(program()).wrap(estimator)
        optimizer = torch.optim.Adam(made.parameters(), 1e-3, fused=True)
        step = compile_step(objectives.elbo(), made, optimizer, option)  # type: ignore[arg-type]
        batches = itertools.cycle([torch.rand(ROWS, DATA).round() for _ in range(8)])
        ways[f"{name}, {mode}"] = Way(lambda step=step, batches=batches: step(next(batches)).item())
    return ratios(ways, REFERENCE, rounds, clock("cpu"))


def main() -> None:
    """Measures, prints, and writes the table where asked."""
    parser = argparse.ArgumentParser(description="Steps of a categorical autoencoder with each gradient estimator.")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each way")
    parser.add_argument("--out", type=Path, help="folder for the table")
    options = parser.parse_args()
    pin(1)
    import torch

    from benchmarks.interleaved import summary
    from benchmarks.table import markdown

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = measure(options.rounds)
    rows = [
        [name, *(str(summary(found[f"{name}, {mode}"])) if f"{name}, {mode}" in found else "–" for mode in MODES)]
        for name in estimators()
    ]
    text = markdown([f"{REFERENCE} = 1", *MODES], rows) + f"\n\n*{interleaved('cpu', options.rounds)}*\n"
    print(text)
    if options.out is not None:
        (options.out / "estimators.md").write_text(text)


if __name__ == "__main__":
    main()
