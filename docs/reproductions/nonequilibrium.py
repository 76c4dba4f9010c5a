"""Diffusion probabilistic models of a swiss roll and of binary heartbeats, with the bound in bits.

Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), *Deep Unsupervised Learning using Nonequilibrium
Thermodynamics*, table 1, figures 1 and 2, and appendix D.1.

    make reproduce NAME=nonequilibrium
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _nonequilibrium_pictures import draw_beats, draw_roll, reversed_bits
from _page import Row, arguments, cost, number, picture_path, standard_error, table, write_section
from _roll import SwissRoll
from torch import Tensor, nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.inference import EMA, LearningRate, binomial_posterior
from ppl_genmodels.models import BinomialChain, BinomialDiffusion, Diffusion
from ppl_genmodels.networks import BitDenoiser, LearnedNoising, TimeMLP

NAME = "nonequilibrium"
ROLL, ROLL_STEPS, ROLL_UPDATES, ROLL_BATCH, TEST = SwissRoll(noise=0.01), 40, 6000, 256, 10_000
THICKER = SwissRoll(noise=0.05)
WAVES = 7
"""Frequencies of the waves that the roll's network sees, each twice the one before."""
BEATS = torch.eye(5).repeat(1, 4)
"""All heartbeats of twenty bins, a pulse in each fifth."""
BEAT_STEPS, BEAT_UPDATES, BEAT_BATCH, DRAWN = 2000, 6000, 256, 2000
FLIPPED, SEEN, PARTICLES = 0.4, 8, 1000
"""Of the noisy channel: the share of bits that it flips, how many sequences are seen through it, and draws for each."""
ROLL_DRAWS, BEAT_DRAWS, COPIES = 20, 60, 2000
"""Steps at which the bound of each test datum is evaluated, and copies of each heartbeat."""
PUBLISHED = {"roll": 2.35, "roll gain": 6.45, "beats": -2.414, "beats gain": 12.024}
BITS = 1 / math.log(2)


class Waves(nn.Module):
    """A residual network that is given sines and cosines of its inputs too, so that it can tell places close by."""

    frequencies: Tensor

    def __init__(self, features: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.inner = TimeMLP(features, width, blocks, context_features=2 * WAVES * features, outputs=outputs)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(-1, WAVES - 1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Outputs for places (row, features) and times (row,)."""
        angles = (x.unsqueeze(-1) * self.frequencies).flatten(-2)
        return self.inner(x, time, torch.cat([angles.sin(), angles.cos()], -1))


class ExactDenoiser(BitDenoiser):
    """What the best network would say of heartbeats."""

    def __init__(self, rate: float) -> None:
        super().__init__(nn.Identity(), rate)

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Log-odds of the bits, from the probabilities of all heartbeats."""
        kept = (1 - time).reshape(*time.shape, 1, 1).double()
        ones = kept * BEATS + (1 - kept) * self.rate
        logs = torch.where(noisy.unsqueeze(-2) == 1, ones.log(), (-ones).log1p()).sum(-1)
        return (logs.softmax(-1) @ BEATS.double()).logit(1e-12).float()


@dataclass(frozen=True)
class Fit:
    """A program, the bits of its bound for some data, shape (data,), and the seconds of processor time it took."""

    program: Any
    bits: Tensor
    seconds: float


def main() -> None:
    """Fits, evaluates, draws, and writes the section."""
    began, spent = time.monotonic(), time.process_time()
    options = arguments(__doc__ or "", epochs=1, seeds=3)
    rolls = [fit_roll(seed) for seed in range(options.seeds)]
    beats = [fit_beats(seed) for seed in range(options.seeds)]
    torch.manual_seed(0)
    noise = torch.full((DRAWN, 20), 0.2).bernoulli()
    numbers = (BEAT_STEPS, BEAT_STEPS // 2, BEAT_STEPS // 5)
    paths = reversed_bits(beats[0].program.chain(BEAT_STEPS), noise, numbers)
    sheets = dict(zip(("t = T", "t = T/2", "t = T/5", "drawn, t = 0"), paths, strict=True))
    draw_beats(picture_path(options.page, "nonequilibrium_beats"), {"data": BEATS[torch.randint(5, (30,))]} | sheets)
    roll = picture_path(options.page, "nonequilibrium_roll")
    draw_roll(roll, rolls[0].program.denoiser, ROLL.sample(3000, 3), ROLL_STEPS)
    minutes = math.ceil((time.process_time() - spent) / 60)
    text = section(rolls, beats, paths[-1], minutes, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def fit_roll(seed: int) -> Fit:
    """The chain of the swiss roll, its rates and the variances of its steps learned."""
    torch.manual_seed(seed)
    program = Diffusion((2,), noising="learned", learned_variance=True)
    program.denoiser.network = Waves(2, 4, width=128, blocks=2)
    program.denoiser.noising = LearnedNoising(start=14.0, end=-3.0)
    objective = obj.denoising(steps=ROLL_STEPS)
    seconds = fit(program, ROLL.sample(ROLL_UPDATES * ROLL_BATCH, seed), objective, ROLL_UPDATES, ROLL_BATCH)
    return evaluated(program, objective, ROLL.sample(TEST, 1000), ROLL_DRAWS, seconds)


def fit_beats(seed: int) -> Fit:
    """The diffusion of heartbeats, by one step of its two thousand for each datum."""
    torch.manual_seed(seed)
    program = BinomialDiffusion((20,), width=64, blocks=2, rate=0.2, steps=1)
    objective = obj.binomial_denoising(steps=BEAT_STEPS)
    data = BEATS[torch.randint(5, (10_000,))]
    seconds = fit(program, data, objective, BEAT_UPDATES, BEAT_BATCH)
    return evaluated(program, objective, BEATS.repeat(COPIES, 1), BEAT_DRAWS, seconds)


def fit(program: Any, data: Tensor, objective: obj.Objective, updates: int, batch_size: int) -> float:
    """Adam from 0.002 down to 0 as a cosine, with averaged weights; gives the seconds of processor time."""
    began = time.process_time()
    ppl.fit(
        program,
        data,
        objective=objective,
        steps=updates,
        batch_size=batch_size,
        optimizer=lambda parameters: torch.optim.Adam(parameters, 2e-3, fused=True),
        callbacks=[cosine(updates), EMA(0.999)],
        progress=False,
    )
    return time.process_time() - began


def cosine(updates: int) -> LearningRate:
    """The learning rate's decay."""
    return LearningRate(lambda each: torch.optim.lr_scheduler.CosineAnnealingLR(each, updates))


def evaluated(program: Any, objective: obj.Objective, data: Tensor, draws: int, seconds: float) -> Fit:
    """With the bound of each datum in bits, the mean of draws of one step."""
    values = [next(iter(objective.evaluate(program, data).values())) for _ in range(draws)]
    found = torch.stack(values).mean(0) * BITS
    print(f"{objective}: {found.mean():.3f} ± {standard_error(found):.3f} bits, {seconds:.0f} s", flush=True)
    return Fit(program, found, seconds)


def exact_beats() -> Tensor:
    """The bound in bits of the best network, for some data."""
    torch.manual_seed(0)
    chain = BinomialChain(ExactDenoiser(0.2), (20,), steps=1)
    return evaluated(chain, obj.binomial_denoising(steps=BEAT_STEPS), BEATS.repeat(COPIES, 1), 4 * BEAT_DRAWS, 0.0).bits


def posterior_errors(program: BinomialDiffusion) -> Tensor:
    """Total variation between drawn and exact posteriors of sequences seen through a noisy channel, shape (sequence,).

    Of the first sequence nothing is seen but that its first three bins are empty.
    """
    torch.manual_seed(0)
    clean = BEATS[torch.randint(5, (SEEN,))]
    seen = (clean - torch.full_like(clean, FLIPPED).bernoulli()).abs()
    log_odds = (2 * seen - 1) * math.log((1 - FLIPPED) / FLIPPED)
    log_odds[0] = 0.0
    log_odds[0, :3] = -torch.inf
    found = binomial_posterior(program.chain(200), log_odds, PARTICLES).samples
    shares = (found.unsqueeze(2) == BEATS).all(-1).float().mean(0)
    signs = (2 * BEATS - 1).unsqueeze(0)
    exact = (signs * log_odds.unsqueeze(1)).clamp(max=0).sum(-1).softmax(-1)
    return 0.5 * ((shares - exact).abs().sum(-1) + 1 - shares.sum(-1))


def shown(fits: Sequence[Fit], of: Callable[[Tensor], Tensor] = lambda bits: bits) -> str:
    """The mean over seeds with its standard errors."""
    values = torch.stack([of(each.bits) for each in fits])
    text = f"{values.mean():.3f} ± {standard_error(values.mean(0)):.3f} over data and draws"
    return (
        f"{text}, ± {standard_error(values.mean(1)):.3f} over {len(fits)} seeds" if len(fits) > 1 else text
    ).replace("-", "−")


def mean(fits: Sequence[Fit]) -> float:
    """The mean bound over seeds."""
    return torch.stack([each.bits.mean() for each in fits]).mean().item()


def rows_of(rolls: Sequence[Fit], beats: Sequence[Fit], drawn: Tensor) -> list[Row]:
    """What was published, and beside it what says how near the best it is."""
    test = ROLL.sample(TEST, 1000)
    true = ROLL.log_prob(test).float() * BITS
    gaussian = -0.5 * (2 * math.log(2 * math.pi) + test.square().sum(-1)) * BITS
    independent = 20 * (0.2 * math.log2(0.2) + 0.8 * math.log2(0.8))
    right = (drawn.unsqueeze(1) == BEATS).all(-1).any(-1).float()
    best, errors = exact_beats(), posterior_errors(beats[0].program)
    roll, roll_gain = mean(rolls), mean(rolls) - gaussian.mean().item()
    return [
        Row("swiss roll: K, bits", "2.35, thickness not given", shown(rolls), roll >= PUBLISHED["roll"]),
        Row(
            "swiss roll: K less an isotropic Gaussian's",
            "6.45, thickness not given",
            shown(rolls, lambda bits: bits - gaussian),
            roll_gain >= PUBLISHED["roll gain"],
        ),
        Row("swiss roll: the true mean log-density, bits", "not given", plain(true)),
        Row("swiss roll: K less the truth", "not given", shown(rolls, lambda bits: bits - true)),
        Row("heartbeat: K, bits per sequence", "−2.414", shown(beats), mean(beats) >= PUBLISHED["beats"]),
        Row(
            "heartbeat: K less independent bits'",
            "12.024",
            shown(beats, lambda bits: bits - independent),
            mean(beats) - independent >= PUBLISHED["beats gain"],
        ),
        Row("heartbeat: the same steps with the exact denoiser", "not given", plain(best)),
        Row("heartbeat: the optimum, log2(1/5)", "−2.322", "−2.322"),
        Row(
            f"posteriors of {SEEN} heartbeats by a factor r(x): largest total variation from the exact",
            "asked: below 0.1",
            f"{errors.max():.3f}, mean {errors.mean():.3f}",
            bool(errors.max() < 0.1),
        ),
        Row("share of drawn sequences that are heartbeats", "nearly perfect (figure)", f"{right.mean():.4f}"),
    ]


def truth(roll: SwissRoll) -> float:
    """The mean log-density of a roll in bits."""
    return roll.log_prob(roll.sample(2000, 1000)).mean().item() * BITS


def plain(values: Tensor) -> str:
    """Mean and standard error over data."""
    return f"{values.mean():.3f} ± {standard_error(values):.3f}".replace("-", "−")


def section(rolls: Sequence[Fit], beats: Sequence[Fit], drawn: Tensor, minutes: int, took: str) -> str:
    """The section of the page."""
    noising = rolls[0].program.denoiser.noising
    start, end = (noising.log_snr(torch.tensor(each)).item() for each in (0.0, 1.0))
    seeds = f" ARGS='--seeds {len(rolls)}'" if len(rolls) != 3 else ""
    return f"""
## Nonequilibrium thermodynamics: swiss roll and heartbeat

Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), *Deep Unsupervised Learning using Nonequilibrium
Thermodynamics*, table 1 and appendix D.1. In bits, as there.

```
make reproduce NAME={NAME}{seeds}
```

{table(rows_of(rolls, beats, drawn))}

![The swiss roll forward, in reverse, and the drift](reproductions/nonequilibrium_roll.png)

![Heartbeats: data, and noise on its way back to them](reproductions/nonequilibrium_beats.png)

- **The roll's thickness decides its number**: the density of a roll grows without bound as it gets thinner, and the
  paper does not give its thickness. Here it is scikit-learn's with noise {ROLL.noise:g}, scaled to variance 1 as the
  paper says, so that its standard deviation is {ROLL.width:.4f}. What can be held against a standard is how far K is
  below the true log-density. With noise {THICKER.noise:g} the truth itself has {truth(THICKER):.2f} bits, below what
  was published. That the published numbers are reached says only that the roll here is thin enough for it.
- **Scale**: K moves with the scale of the data, its gain over the Gaussian of the same mean and variance does not.
  The paper's two numbers say that the Gaussian has −4.10 bits, which is that of variance 1, as here (−4.09).
- **Swiss roll**: {ROLL_STEPS} steps, as in the paper, whose rates are learned, all of them with both ends, and so is
  the diagonal of the variance of each step; the log signal-to-noise ratio goes from {number(start)} to
  {number(end)} nats (the first seed). The mean comes from a residual network of two blocks of 128 units that sees
  waves of its inputs, where the paper has 16 radial basis functions with weights of their own for each step.
  {ROLL_UPDATES:,} updates on batches of {ROLL_BATCH} new points; {TEST:,} points test.
- **Heartbeat**: {BEAT_STEPS:,} steps of rate 1/(T − t + 1) from independent bits, 1 with probability 0.2, as in the
  paper. The network, two residual blocks of 64 units shared by all steps, gives the probabilities of the data's bits,
  from which a step follows by Bayes' rule; the paper's, three layers of 50 with weights of their own for each step at
  the end, gives those of the step. {BEAT_UPDATES:,} updates on batches of {BEAT_BATCH}, each datum at one step.
- **The bound**: K of the paper takes its last step from the forward process, to avoid edge effects; here it is learned
  as the others are.
- **A factor** (section 2.5): one sequence of which only its first three bins are known, to be empty, and {SEEN - 1}
  seen through a channel that flips a bit with probability {FLIPPED:g}; `inference.binomial_posterior` with
  {PARTICLES:,} particles and 200 steps, against the probabilities of the five heartbeats by enumeration.
- **Evaluation**: each datum at {ROLL_DRAWS} (roll) or {BEAT_DRAWS} (heartbeat) steps of the chain, drawn evenly;
  the mean is K.
- **Pictures**: the first seed. Drift is the mean of a reverse step less where it starts, drawn to scale within a panel.
- **Cost**: {took}, for all fits and pictures; {minutes} minutes of processor time, which other work on the machine
  does not lengthen.
"""


if __name__ == "__main__":
    main()
