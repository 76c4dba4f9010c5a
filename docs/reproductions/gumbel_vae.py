"""Gradient estimators for a VAE with discrete latents on binary MNIST: the loss on test images.

Jang, Gu and Poole (2017), section 4.2, figure 4 and table 1: one layer of 200 Bernoulli units, or
of 20 categorical ones with 10 classes each.

    make reproduce NAME=gumbel-vae DATA_DIR=folder-that-holds-mnist
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from _gumbel import UNITS, Experiment, Units, units_of, values_of
from _gumbel_cases import Case, run
from _gumbel_page import draw, longer_rows, remarks, second_half, table_rows
from _page import arguments, picture_path, table, write_section
from torch import Tensor, nn

from ppl_genmodels.objectives import Exponential, elbo

PIXELS = 784
LONGER = 3
"""How many times as long Gumbel-Softmax is fitted once more."""


class DiscreteVAE(nn.Module):
    """One layer of discrete units between two affine maps; the prior of the units is uniform.

    Args:
        units: Of which kind.
    """

    prior_logits: Tensor

    def __init__(self, units: Units) -> None:
        super().__init__()
        self.units: Units = units
        self.encoder = nn.Linear(PIXELS, UNITS)
        self.decoder = nn.Linear(UNITS, PIXELS)
        self.register_buffer("prior_logits", torch.zeros(UNITS))

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws the units and an image for each row."""
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", units_of(self.units, self.prior_logits))
            logits = self.decoder(values_of(self.units, z))
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Draws the units from the approximate posterior."""
        with pyro.plate("data", len(x)):
            pyro.sample("z", units_of(self.units, self.encoder(x)))


EXPERIMENT = Experiment(
    "gumbel-vae",
    DiscreteVAE,
    elbo(),
    lambda steps: Exponential(1.0, 0.5, -(-steps // 2)),
    {
        "Bernoulli": (112.2, 110.9, 109.7, 116.0, 111.5, 105.0, 111.5),
        "categorical": (110.6, 128.8, 107.0, 110.9, 107.8, 101.5, 107.8),
    },
)


def main() -> None:
    """Fits, evaluates, draws, and writes the section."""
    options = arguments(__doc__ or "", epochs=100, seeds=1, results=True)
    cases = run(EXPERIMENT, options, lambda x: (x,))
    longer = run(EXPERIMENT, options, lambda x: (x,), ("Gumbel-Softmax",), LONGER, cases)
    draw(picture_path(options.page, "gumbel_vae"), cases, (105.0, 175.0))
    command = f"make reproduce NAME={EXPERIMENT.name} ARGS='--epochs {options.epochs} --seeds {options.seeds}'"
    text = section(cases, longer, command, options.epochs)
    write_section(options.page, EXPERIMENT.name, text)
    print(text)


def section(cases: Sequence[Case], longer: Sequence[Case], command: str, epochs: int) -> str:
    """The section in Markdown."""
    return f"""
## Gumbel-Softmax: VAE

Jang, Gu and Poole (2017), *Categorical Reparameterization with Gumbel-Softmax*, table 1.

```
{command}
```

{table([*table_rows(EXPERIMENT, cases), *longer_rows(EXPERIMENT, longer, LONGER * epochs)])}

![Loss on validation images after each epoch](reproductions/gumbel_vae.png)

- **Program**: one affine map from the image to the logits of the units, one from the units to the
  logits of the pixels, a uniform prior that is not learned. The paper's caption writes the
  categorical one 784-(20x10)-200, read here as the same with other units; its numbers may come from
  another network.
- **Temperature**: from 1 to 0.5 within the first half, exponentially; the divergence is that of the
  discrete units (``density="categorical"``), in closed form, as in the paper.
- **What was missed**: the score function and MuProp are not at their end: within the second half of
  the epochs, at falling learning rates, their loss on validation images by one draw changed by
  {second_half(cases, "score function")} (Bernoulli and categorical) and {second_half(cases, "MuProp")},
  that of straight-through by {second_half(cases, "straight-through")}. For Gumbel-Softmax it is not the
  length: {LONGER} times as long, at the same learning rates, is in the table too. It trains relaxed units,
  whose objective bounds nothing, and the discrete ones need not follow; the paper chose its schedule
  of temperatures by validation images, which was not done here. Annealed straight-through stops
  falling, or rises, while its slope grows: it is this slope that misses.
{remarks(cases, epochs, [*cases, *longer]).strip()}
"""


if __name__ == "__main__":
    main()
