"""The section and the picture of random architectures.

Convention of this module: what was found is, by the architecture's number, the outcome of either game by its name; all
of them have played both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _architecture_games import BATCH_SIZE, CLASSES, FEATURES, SCORED, SHOWN, WAYS, Digits, Played, critic_updates
from _architectures import DEPTHS, LATENTS, SIDE, WIDTHS, Architecture, drawn
from _page import Row, table
from matplotlib import pyplot
from scipy.stats import binomtest

from ppl_genmodels import diagnostics

LEAST = (1.0, 3.0, 5.0, 7.0, 8.0)
SUCCESS = 5.0
"""The score of a success, half of the highest there is; chosen before any score was seen."""
PUBLISHED = {
    1.0: (0, 8, 192, 0),
    3.0: (1, 88, 110, 1),
    5.0: (0, 147, 42, 11),
    7.0: (1, 104, 5, 90),
}
"""The paper's table 2, on 32x32 ImageNet by the original inception score: only GAN, only WGAN-GP, both, neither."""

Found = Mapping[int, Mapping[str, Played]]


def scores(found: Found, way: str) -> np.ndarray[Any, Any]:
    """Of every architecture by one game."""
    return np.array([games[way].score for games in found.values()])


def share(found: Found, way: str, least: float = SUCCESS) -> tuple[float, float]:
    """The share of architectures whose score is above the least, and its binomial standard error."""
    mean = float((scores(found, way) > least).mean())
    return mean, (mean * (1 - mean) / len(found)) ** 0.5


def outcomes(found: Found, least: float) -> list[int]:
    """How many architectures only GAN succeeds with, only WGAN-GP, both, and neither."""
    gan, wgan = (scores(found, way) > least for way in WAYS)
    return [int(some.sum()) for some in (gan & ~wgan, wgan & ~gan, gan & wgan, ~(gan | wgan))]


def draw(path: Path, found: Found, real: float) -> None:
    """The share of successes for each least score, the scores of both games, and samples of the median of each."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure = pyplot.figure(figsize=(11.0, 6.4), layout="constrained")
        above, below = figure.subfigures(2, 1, height_ratios=(3, 1.3))
        left, right = above.subplots(1, 2)
        draw_shares(left, found, real)
        draw_scores(right, found)
        for panel, way in zip(below.subplots(2, 1), WAYS, strict=True):
            draw_median(panel, found, way)
        figure.savefig(path, dpi=diagnostics.style.RESOLUTION)
        pyplot.close(figure)


def draw_shares(panel: Any, found: Found, real: float) -> None:
    """The share of architectures above each score, with a band of one standard error on either side."""
    least = np.linspace(1, CLASSES, 181)
    for way, colour in zip(WAYS, diagnostics.style.PALETTE, strict=False):
        mean, error = np.array([share(found, way, one) for one in least]).T
        panel.plot(least, mean, color=colour, label=way)
        panel.fill_between(least, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    panel.axvline(SUCCESS, color="#717581", linestyle=":", linewidth=1, label="success")
    panel.axvline(real, color="#717581", linestyle="--", linewidth=1, label="held-out digits")
    panel.set(xlabel="least inception score", ylabel="share of architectures", ylim=(0, 1.02), title="Successes")
    panel.legend(loc="lower left")


def draw_scores(panel: Any, found: Found) -> None:
    """The scores of both games with each architecture, by whether the critic is normalized."""
    gan, wgan = (scores(found, way) for way in WAYS)
    normalized = np.array([drawn(number).critic.normalized for number in found])
    for which, label, colour in ((normalized, "normalized critic", 2), (~normalized, "plain critic", 3)):
        panel.scatter(gan[which], wgan[which], s=14, alpha=0.8, color=diagnostics.style.PALETTE[colour], label=label)
    panel.plot((0, CLASSES), (0, CLASSES), color="#717581", linestyle=":", linewidth=1)
    panel.set(xlabel="score by GAN", ylabel="score by WGAN-GP", xlim=(-0.3, 10), ylim=(-0.3, 10), aspect="equal")
    panel.set_title("Every architecture")
    panel.legend(loc="lower right")


def draw_median(panel: Any, found: Found, way: str) -> None:
    """Samples of the architecture in the middle of a game's scores."""
    games = sorted((games[way] for games in found.values()), key=lambda played: played.score)
    median = games[len(games) // 2]
    blank = np.full((SHOWN, SIDE, SIDE), 255)
    images = np.array(median.images or blank).reshape(SHOWN, SIDE, SIDE)
    panel.imshow(np.concatenate(np.pad(images, ((0, 0), (0, 0), (1, 1))), axis=1), vmin=0, vmax=255)
    panel.set_axis_off()
    panel.set_title(f"{way}: samples of the median, score {median.score:.1f}")


def section(found: Found, digits: Digits, epochs: int, count: int, name: str, spent: str) -> str:
    """The section's text."""
    rows = len(digits.train)
    steps = {way: played.steps(epochs, rows) for way, played in WAYS.items()}
    minutes = sum(played.seconds for games in found.values() for played in games.values()) / 60
    return f"""
## Random architectures

[Gulrajani and others (2017)](https://arxiv.org/abs/1704.00028), section 5.1: of 200 architectures that are drawn at
random, how many learn by the game of GAN (non-saturating), and how many by WGAN-GP? Theirs are convolutions with 4 to
20 layers for 32x32 ImageNet; here they are small perceptrons for digits of 14x14 pixels, as convolutions would take
several times as long. The published numbers, given from memory, stand beside these as another experiment's.

```
make reproduce NAME={name} ARGS='--epochs {epochs} --results folder'
```

{table(asked(found))}

**{len(found)} of {count} architectures have played both games.** How many have a score above the least one, with the
published counts in parentheses, and shares of successes among those that have something in common:

{counts(found)}

{by_choice(found)}

![Shares of successes, scores of both games, samples](reproductions/random_architectures.png)

- **Architectures**: of generator and critic each, evenly and independently: {listed(DEPTHS)} hidden layers of
  {listed(WIDTHS)} units; ReLU, leaky ReLU, the paper's scaled softplus or tanh; normalized or not; of both,
  {listed(LATENTS)} latents. The generator has batch normalization, and so has GAN's critic; WGAN-GP's has layer
  normalization. Weights start with a variance of 2 over the inputs. A critic scores data and samples in one batch, so
  that batch normalization takes the moments of both together and the moments of a batch do not tell its side; DCGAN's
  critic, as it is usually trained, sees batches of either side alone.
- **Games**: batches of {BATCH_SIZE}, penalty 10, Adam.
{settings()}
  Rates are above the papers' 0.0002 and 0.0001, as the training is short: for GAN 0.0002 and 0.001 were tried, for
  WGAN-GP 0.001 and 0.002, and 3 updates of its critic beside the paper's 5, on one to three architectures that are not
  among these, and no others.
- **Equal work**: either critic makes {critic_updates(epochs, rows):,} updates, {epochs} passes over {rows:,} images;
  the generator makes {steps["GAN"]:,} by GAN and {steps["WGAN-GP"]:,} by WGAN-GP. What GAN spends on more updates of
  the generator, WGAN-GP spends on the penalty: its games take
  {longer(found):.2f} times the processor time of GAN's.
- **Score**: the inception score of {SCORED:,} samples by a convolutional classifier whose accuracy on test digits is
  {digits.accuracy:.3f}. It lies between 1 and {CLASSES}, and is {digits.score:.2f} for as many test digits. A success
  is a score above {SUCCESS:g}, half of the highest, fixed before any was seen. A game whose numbers overflow fails at
  every score: {overflown(found)}.
- **Fréchet distance** of the classifier's {FEATURES} features from those of test digits, the median:
  {frechet(found)}.
- **Cost**: all games of the table together {minutes:.0f} processor minutes; this run, which takes finished games from
  the folder of results, {spent}.
"""


def listed(numbers: tuple[int, ...]) -> str:
    """As in a sentence."""
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


def asked(found: Found) -> list[Row]:
    """Shares of successes, scores, and whether more architectures succeed by WGAN-GP alone than chance would have."""
    only_gan, only_wgan, _, _ = outcomes(found, SUCCESS)
    chance = binomtest(only_wgan, only_wgan + only_gan).pvalue if only_wgan + only_gan else 1.0
    shares = {way: " ± ".join(f"{value:.2f}" for value in share(found, way)) for way in WAYS}
    published = {"GAN": "0.21, above a score of 5", "WGAN-GP": "0.94, above a score of 5"}
    means = {way: f"{scores(found, way).mean():.2f}" for way in WAYS}
    more = scores(found, "WGAN-GP") - scores(found, "GAN")
    error = more.std(ddof=1) / len(more) ** 0.5 if len(more) > 1 else np.nan
    return [
        *(Row(f"share of successes by {way}", published[way], shares[way]) for way in WAYS),
        Row(
            "successes of WGAN-GP alone, of GAN alone (p of a sign test)",
            "147, 0",
            f"{only_wgan}, {only_gan} ({chance:.2g})",
            only_wgan > only_gan and chance < 0.05,
        ),
        Row("mean score by GAN, by WGAN-GP", "", f"{means['GAN']}, {means['WGAN-GP']}"),
        Row("WGAN-GP's less GAN's, mean over architectures", "", f"{more.mean():.2f} ± {error:.2f}"),
    ]


def counts(found: Found) -> str:
    """Outcomes for each least score, as a table."""
    lines = ["| score above | only GAN | only WGAN-GP | both | neither |", "| ---: | ---: | ---: | ---: | ---: |"]
    for least in LEAST:
        here, published = outcomes(found, least), PUBLISHED.get(least)
        cells = map(str, here) if published is None else map("{} ({})".format, here, published)
        lines.append(f"| {least:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


CHOICES: dict[str, Callable[[Architecture], bool]] = {
    "both normalized": lambda one: one.generator.normalized and one.critic.normalized,
    "generator alone normalized": lambda one: one.generator.normalized and not one.critic.normalized,
    "critic alone normalized": lambda one: one.critic.normalized and not one.generator.normalized,
    "neither normalized": lambda one: not (one.generator.normalized or one.critic.normalized),
    "generator of at most 2 hidden layers": lambda one: one.generator.depth <= 2,
    "generator of 4 or 6": lambda one: one.generator.depth > 2,
    "critic of at most 2 hidden layers": lambda one: one.critic.depth <= 2,
    "critic of 4 or 6": lambda one: one.critic.depth > 2,
}


def by_choice(found: Found) -> str:
    """The shares of successes among architectures that have something in common, as a table."""
    lines = ["| architectures with | how many | GAN | WGAN-GP |", "| --- | ---: | ---: | ---: |"]
    for name, has in CHOICES.items():
        some = {number: games for number, games in found.items() if has(drawn(number))}
        if some:
            cells = [" ± ".join(f"{value:.2f}" for value in share(some, way)) for way in WAYS]
            lines.append(f"| {name} | {len(some)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def settings() -> str:
    """How either game is played, a line for each."""
    return "\n".join(
        f"  {name}: {way.critic_steps} update{'s' if way.critic_steps > 1 else ''} of the critic before each of the "
        f"generator, rate {way.rate:g}, betas {way.betas[0]:g} and {way.betas[1]:g}."
        for name, way in WAYS.items()
    )


def longer(found: Found) -> float:
    """The time of all of WGAN-GP's games over that of GAN's."""
    gan, wgan = (sum(games[way].seconds for games in found.values()) for way in WAYS)
    return wgan / gan


def overflown(found: Found) -> str:
    """How many."""
    return ", ".join(f"{sum(games[way].score == 0 for games in found.values())} by {way}" for way in WAYS)


def frechet(found: Found) -> str:
    """The median over the games that have one."""
    told = {way: [one for games in found.values() if (one := games[way].frechet) is not None] for way in WAYS}
    return ", ".join(f"{np.median(some):.1f} by {way}" if some else f"none by {way}" for way, some in told.items())
