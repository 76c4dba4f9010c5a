"""Games in the plane: WGAN-GP on narrow modes and a roll, and whether the health monitor tells which games fail.

Gulrajani and others (2017), Improved Training of Wasserstein GANs, section 4 and figure 2; the counts are those of
Srivastava and others (2017), VEEGAN, section 4.1, and Lin and others (2018), PacGAN, section 4.1.

    make reproduce NAME=gan-toys
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _page import Row, arguments, cost, picture_path, table, write_section
from _toy_health import (
    AWAY,
    BATCH_SIZE,
    COVERED,
    FINAL,
    KINDS,
    MONITORS,
    QUALITY,
    STEPS,
    TOYS,
    WANDERS,
    Agreement,
    agreement,
    has_failed,
    played,
)
from _toys import MISSING, NEAR, PIECES, Roll, Toy, grid, kept_or_made, ring
from matplotlib import pyplot
from torch.optim.lr_scheduler import LambdaLR

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, inference, models

NAME = "gan-toys"
SETS: Mapping[str, Toy] = {"8 Gaussians": ring(0.02), "25 Gaussians": grid(1.0, 0.025), "swiss roll": Roll(0.25)}
LONGER = {"8 Gaussians": 1, "25 Gaussians": 2, "swiss roll": 1}
"""How many times the passes over the data each has."""
ROWS, BATCH, EPOCHS = 51_200, 256, 22
LATENT, HIDDEN, PENALTY, CRITIC_STEPS = 2, (128, 128, 128), 0.1, 3
RATE, CRITIC_RATE, STEADY, AVERAGE = 1.5e-3, 2e-3, 0.3, 0.99
"""Both rates stay as they are for a share of the steps, and then fall to nothing as a cosine does."""
DRAWN, COMPARED, AIM = 50_000, 2000, 0.9
NEARLY = 0.6
"""The share of the modes that a game holds which fails by little."""
GAMES, FIRST = 50, 2000
"""Games of the monitor, and the seed of the first."""

Fits = Mapping[str, Sequence[Mapping[str, Any]]]


def main() -> None:
    """Fits and plays, or takes what was kept, draws, and writes the section."""
    options = arguments(__doc__ or "", epochs=EPOCHS, seeds=5, results=True)
    fits: dict[str, list[Mapping[str, Any]]] = {name: [] for name in SETS}
    for seed in range(options.seeds):
        for name in SETS:
            kept = f"{name.replace(' ', '_')}_{options.epochs}_{seed}"
            made = partial(fitted, name, seed, options.epochs, options.compile)
            fits[name].append(kept_or_made(options.results, kept, made))
            print(kept, f"{fits[name][-1]['covered']}, {fits[name][-1]['quality']:.4f}", flush=True)
    games = []
    for seed in range(FIRST, FIRST + GAMES * options.seeds // 5):
        games.append(kept_or_made(options.results, f"game_{STEPS}_{seed}", partial(played, seed)))
        print(seed, {name: value for name, value in games[-1].items() if name != "settings"}, flush=True)
    draw(picture_path(options.page, "gan_toys"), fits)
    draw_games(picture_path(options.page, "gan_toys_health"), games)
    text = section(fits, games, options.epochs)
    write_section(options.page, NAME, text)
    print(text)


def fitted(name: str, seed: int, epochs: int, compile: str) -> dict[str, Any]:
    """One fit: figures of its samples, some of them, and the critic's estimates."""
    torch.manual_seed(seed)
    began, data = time.process_time(), SETS[name].sample(ROWS, seed)
    program = models.GAN(
        (2,), LATENT, HIDDEN, divergence="wasserstein", gradient_penalty=PENALTY, critic_steps=CRITIC_STEPS,
        critic_rate=CRITIC_RATE,
    )  # fmt: skip
    fall = partial(falling, steps=steps_of(name, epochs))
    run: dict[str, Any] = {"steps": steps_of(name, epochs), "batch_size": BATCH, "seed": seed, "compile": compile}
    run["optimizer"] = partial(torch.optim.Adam, lr=RATE, betas=(0.5, 0.9), fused=True)
    run["callbacks"] = [inference.LearningRate(lambda optimizer: LambdaLR(optimizer, fall)), inference.EMA(AVERAGE)]
    fit = ppl.fit(program, data, progress=False, **run)
    samples = program.generate(DRAWN)
    return {
        **figures(name, samples, seed),
        "samples": samples[:COMPARED].clone(),
        "estimates": torch.tensor(fit.history["adversarial[x]"].to_numpy()).float(),
        "seconds": time.process_time() - began,
    }


def steps_of(name: str, epochs: int) -> int:
    """Updates of the program."""
    return LONGER[name] * epochs * ROWS // BATCH


def falling(step: int, steps: int) -> float:
    """The factor of the learning rates after a step."""
    share = max(0.0, step / steps - STEADY) / (1 - STEADY)
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def figures(name: str, samples: torch.Tensor, seed: int) -> dict[str, Any]:
    """What is asked of samples, shape (rows, 2)."""
    reached, exact = SETS[name].reached(samples), SETS[name].sample(COMPARED, 10_000 + seed)
    return {
        "covered": reached.covered,
        "held": reached.held,
        "parts": reached.parts,
        "quality": reached.quality,
        "accuracy": diagnostics.classifier_two_sample(samples[:COMPARED], exact, seed=seed).accuracy,
        "mmd": diagnostics.mmd_test(samples[:COMPARED], exact, permutations=1).squared_mmd,
    }


def draw(path: Path, fits: Fits) -> None:
    """Data, samples of the first seed, and the estimates of all seeds."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(3, len(SETS), figsize=(9.6, 9.4), layout="constrained")
        for column, (name, toy) in zip(panels.T, SETS.items(), strict=True):
            exact, samples = toy.sample(COMPARED, 0), fits[name][0]["samples"]
            for ax, points, title in zip(column, (exact, samples), (f"{name}: data", "WGAN-GP, seed 0"), strict=False):
                ax.scatter(*points.T, s=3, linewidth=0, alpha=0.6)
                ax.set(title=title, aspect="equal", xlim=(-2.7, 2.7), ylim=(-2.7, 2.7))
            for each in fits[name]:
                smooth = each["estimates"].unfold(0, 100, 100).mean(1).clamp(min=1e-4)
                column[2].plot(100 * (torch.arange(len(smooth)) + 1), smooth, alpha=0.8)
            column[2].set(yscale="log", ylim=(1e-3, 3.0), xlabel="step", title="critic's estimate, every seed")
        panels[2, 0].set_ylabel("distance, mean of 100 steps")
        figure.savefig(path, dpi=diagnostics.style.RESOLUTION)
        pyplot.close(figure)


def draw_games(path: Path, games: Sequence[Mapping[str, Any]]) -> None:
    """Each game by the modes that it holds and the share of its samples at them, one panel for each monitor."""
    generator = torch.Generator().manual_seed(0)
    shift = 0.03 * (torch.rand(len(games), generator=generator) - 0.5)
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(1, 2, figsize=(9.6, 4.9), layout="constrained", sharey=True)
        for ax, monitor in zip(panels, MONITORS, strict=True):
            for warned, colour in ((True, diagnostics.style.PALETTE[1]), (False, diagnostics.style.PALETTE[0])):
                for failed, marker in ((True, "X"), (False, "o")):
                    pick = [i for i, g in enumerate(games) if (bool(g[monitor]), has_failed(g)) == (warned, failed)]
                    x = [games[i]["covered"] + float(shift[i]) for i in pick]
                    said = f"{'warned' if warned else 'not warned'}, {'failed' if failed else 'well'}: {len(pick)}"
                    ax.scatter(x, [games[i]["quality"] for i in pick], c=colour, marker=marker, alpha=0.8, label=said)
            ax.axhline(QUALITY, color="#717581", linestyle=":", linewidth=1)
            ax.axvline(COVERED, color="#717581", linestyle=":", linewidth=1)
            ax.set(title=monitor, xlabel="share of the modes that are held", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
        panels[0].set_ylabel("share of samples at a mode")
        figure.savefig(path, dpi=diagnostics.style.RESOLUTION)
        pyplot.close(figure)


def rows_of(name: str, fits: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What was asked of one set, beside what exact data have."""
    exact = figures(name, SETS[name].sample(DRAWN, 20_000), 0)
    part = "pieces" if name == "swiss roll" else "modes"
    fewest = {count: min(fit[count] for fit in fits) for count in ("covered", "held")}
    shown = ", ".join(str(fit["covered"]) for fit in fits)
    quality = [fit["quality"] for fit in fits]
    return [
        Row(f"{name}: {part} covered, each seed", f"all {exact['parts']}", shown, fewest["covered"] == exact["parts"]),
        Row(f"{name}: {part} with a tenth of their even share, the fewest", "", str(fewest["held"])),
        Row(
            f"{name}: share at one, mean and least (exact data: {100 * exact['quality']:.1f} %)",
            f"over {100 * AIM:.0f} %",
            f"{100 * sum(quality) / len(quality):.1f} %, {100 * min(quality):.1f} %",
            min(quality) > AIM,
        ),
        Row(
            f"{name}: accuracy of a classifier, squared MMD (exact: {exact['accuracy']:.3f}, {exact['mmd']:.1g})",
            "",
            f"{_mean(fits, 'accuracy'):.3f}, {_mean(fits, 'mmd'):.2g}",
        ),
    ]


def _mean(fits: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(fit[name] for fit in fits) / len(fits))


def agreements(games: Sequence[Mapping[str, Any]]) -> str:
    """Precision and recall of the warnings as a Markdown table."""
    lines = ["| warning | monitor | when | precision | recall |", "| --- | --- | --- | --- | --- |"]
    for kind in (None, *KINDS):
        for monitor in MONITORS:
            for when in ("", ", ever"):
                found: Agreement = agreement(games, monitor + when, kind)
                lines.append(f"| {kind or '**any**'} | {monitor} | {when[2:] or 'at the end'} | {found} |")
    return "\n".join(lines)


def section(fits: Fits, games: Sequence[Mapping[str, Any]], epochs: int) -> str:
    """The section of the page."""
    rows = [row for name in SETS for row in rows_of(name, fits[name])]
    fitting = sum(each["seconds"] for some in fits.values() for each in some)
    playing = sum(game["seconds"] for game in games)
    steps = ", ".join(f"{name}: {steps_of(name, epochs):,}" for name in SETS)
    kinds = Counter(kind for game in games for kind in game["truth"])
    wasserstein = [game for game in games if game["settings"]["divergence"] == "wasserstein"]
    return f"""
## Games in the plane, and their health

[Gulrajani and others (2017)](https://arxiv.org/abs/1704.00028) fit WGAN-GP to eight and twenty-five narrow modes and to
a swiss roll. Asked here: all modes covered, and over nine in ten samples within three standard deviations of one
([VEEGAN](https://arxiv.org/abs/1705.07761), section 4.1), in each of {len(next(iter(fits.values())))} fits.

```
make reproduce NAME={NAME} ARGS='--epochs {epochs}'
```

{table(rows)}

![Data, samples and the critic's estimates](reproductions/gan_toys.png)

- **Data**: {ROWS:,} points of eight modes on a circle of radius 2, of standard deviation 0.02; of 5 by 5 modes 1 apart,
  of standard deviation 0.025; and of scikit-learn's swiss roll without its depth, noise 0.25, scaled to variance 1.
- **Counts** by {DRAWN:,} samples: a mode, or one of {PIECES} pieces of the roll, is covered when a sample is within
  {NEAR:g} standard deviations of it. In the plane exact data have {100 * (1 - math.exp(-(NEAR**2) / 2)):.1f} % there.
  Classifier and MMD compare {COMPARED:,} samples with as many new data.
- **Fit**: `GAN(divergence="wasserstein")`, {LATENT} latents, {len(HIDDEN)} layers of {HIDDEN[0]} units for either
  player, penalty {PENALTY:g}, batches of {BATCH}, {CRITIC_STEPS} steps of the critic before each of the program
  ({steps}).
  Adam at {RATE:g}, the critic's at {CRITIC_RATE:g}, both falling to nothing over the last
  {100 * (1 - STEADY):.0f} % of the steps; weights averaged at {AVERAGE:g}.
- **Chosen** by fits of seed 100, which is not in the table. Modes so narrow need rates that fall, and an average that
  is short beside the fit: a generator a hundredth off has no sample at a mode.

### Does the monitor tell which games fail?

{len(games)} games whose settings are drawn at random from ranges fixed before: minimax, non-saturating or WGAN-GP;
{" or ".join(TOYS)}; learning rates of 0.0002 to 0.005 and of the critic from 0.0001 to 0.01; momentum 0, 0.5 or 0.9;
1, 2 or 5 steps of the critic; penalties of 0.1, 1 or 10; two layers of 16, 64 or 128 units; {STEPS:,} steps in batches
of {BATCH_SIZE}, rates that do not fall, no averages.
`GameHealth(every=50)` looks at each, once without and once with the places of the modes.

The monitor's rules were set by games of other seeds, once more after a first table of fifty games whose seeds are not
these, and the truth's bars before these games were played. The truth is
told by {FINAL:,} samples at the end and by looks on the way, of which the monitor knows nothing.
*Collapse*: fewer than {100 * COVERED:.0f} % of the modes hold {MISSING:g} of their even share or more. *Cycles*: over
the later half, {100 * WANDERS:.0f} % of the samples change their mode from one look to the next, 100 steps on. *Critic
wins*: less than {100 * AWAY:.0f} % of the samples is at a mode, and they are not nearer to the data than half way
through, without cycles. *Astray*: as few are, and the critic has not won. A game has failed when any of these is so, or
less than {100 * QUALITY:.0f} % of its samples are at a mode (modes are wider here, 0.1 and 0.075).

{sum(map(has_failed, games))} of the {len(games)} games failed ({_counts(kinds)}); of the {len(wasserstein)} of WGAN-GP
{sum(map(has_failed, wasserstein))}. Precision is the share of warned games that failed, recall the share of failed
games that were warned of, with binomial standard errors (of k in n as at (k + 1) / (n + 2), which is never 0 nor 1);
"at the end" is what is present at the last measures.

{agreements(games)}

![Games by modes held and samples at modes, and warnings](reproductions/gan_toys_health.png)

- **Missed**: {missed(games)}
- **Cost**: the fits {cost(fitting)}; the games {cost(playing)}, in processor time.
"""


def missed(games: Sequence[Mapping[str, Any]]) -> str:
    """What the failed games have in common that neither monitor ever warned of."""
    warned = [any(game[f"{monitor}, ever"] for monitor in MONITORS) for game in games]
    found = [game for game, told in zip(games, warned, strict=True) if has_failed(game) and not told]
    nearly = sum(game["covered"] >= NEARLY for game in found)
    return (
        f"of the {len(found)} failed games that neither monitor ever warned of, {nearly} hold "
        f"{100 * NEARLY:.0f} % of the modes or more. A measure looks at 512 samples, and a mode that has one of them "
        f"counts."
    )


def _counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} {kinds[kind]}" for kind in KINDS)


if __name__ == "__main__":
    main()
