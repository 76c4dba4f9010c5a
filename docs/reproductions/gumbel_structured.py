"""Gradient estimators for structured prediction on binary MNIST: the loss on test images.

Jang, Gu and Poole (2017), section 4.1, figure 3 and table 1: the lower half of a digit from its
upper half by a sigmoid belief network with two layers of 200 Bernoulli units, or of 20 categorical
ones with 10 classes each.

    make reproduce NAME=gumbel-structured DATA_DIR=folder-that-holds-mnist
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from _gumbel import UNITS, Experiment, Units, units_of, values_of
from _gumbel_cases import Case, run
from _gumbel_page import draw, remarks, second_half, table_rows
from _page import arguments, picture_path, table, write_section
from torch import Tensor, nn

from ppl_genmodels.objectives import log_lik

HALF = 392


class BeliefNetwork(nn.Module):
    """Two layers of discrete units between the halves of an image, with affine maps between them.

    The guide is the model's own conditional distribution of the units given the upper half, so the
    divergence of the two is zero and the objective is the expected log-likelihood alone.

    Args:
        units: Of which kind.
    """

    def __init__(self, units: Units) -> None:
        super().__init__()
        self.units: Units = units
        self.first, self.second = nn.Linear(HALF, UNITS), nn.Linear(UNITS, UNITS)
        self.last = nn.Linear(UNITS, HALF)

    def model(self, upper: Tensor, lower: Tensor | None = None) -> Tensor:
        """Draws both layers and a lower half for each upper one."""
        with pyro.plate("data", len(upper)):
            logits = self.last(self.layers(upper))
            return pyro.sample("lower", dist.Bernoulli(logits=logits).to_event(1), obs=lower)

    def guide(self, upper: Tensor, lower: Tensor | None = None) -> None:
        """Draws both layers as the model does."""
        with pyro.plate("data", len(upper)):
            self.layers(upper)

    def layers(self, upper: Tensor) -> Tensor:
        """What the second layer hands on."""
        h = upper
        for name, weights in (("h1", self.first), ("h2", self.second)):
            h = values_of(self.units, pyro.sample(name, units_of(self.units, weights(h))))
        return h


EXPERIMENT = Experiment(
    "gumbel-structured",
    BeliefNetwork,
    log_lik(),
    lambda steps: 1.0,
    {
        "Bernoulli": (72.0, 59.7, 58.9, 58.9, 58.7, 58.5, 59.3),
        "categorical": (73.1, 67.9, 63.0, 61.8, 61.1, 59.0, 59.7),
    },
)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The upper and the lower half of each image, each (rows, 392)."""
    upper, lower = x.split(HALF, dim=1)
    return upper.contiguous(), lower.contiguous()


def main() -> None:
    """Fits, evaluates, draws, and writes the section."""
    options = arguments(__doc__ or "", epochs=100, seeds=1, results=True)
    cases = run(EXPERIMENT, options, halves)
    draw(picture_path(options.page, "gumbel_structured"), cases, (65.0, 110.0))
    command = f"make reproduce NAME={EXPERIMENT.name} ARGS='--epochs {options.epochs} --seeds {options.seeds}'"
    text = section(cases, command, options.epochs)
    write_section(options.page, EXPERIMENT.name, text)
    print(text)


def section(cases: Sequence[Case], command: str, epochs: int) -> str:
    """The section in Markdown."""
    return f"""
## Gumbel-Softmax: structured prediction

Jang, Gu and Poole (2017), *Categorical Reparameterization with Gumbel-Softmax*, table 1.

```
{command}
```

{table(table_rows(EXPERIMENT, cases))}

![Loss on validation images after each epoch](reproductions/gumbel_structured.png)

- **Program**: affine maps between the upper half, two layers of units and the lower half. The units
  are drawn from the model itself, which is its own guide: the divergence is zero and the objective
  is the log-likelihood alone. The paper's formula averages log-likelihoods over draws, which is what
  one draw estimates; its text says importance-sampled, which is what the verdict goes by.
- **Temperature**: 1, as in the paper.
- **What was missed**: the score function and MuProp, unbiased and noisy. They are not at their end:
  within the second half of the epochs, at falling learning rates, their loss on validation images by
  one draw changed by {second_half(cases, "score function")} (Bernoulli and categorical) and
  {second_half(cases, "MuProp")}, that of straight-through by {second_half(cases, "straight-through")}.
  The mean over other images, which is subtracted, does not know how hard this image is. Longer fits
  and learned baselines were not tried here.
{remarks(cases, epochs, cases).strip()}
"""


if __name__ == "__main__":
    main()
