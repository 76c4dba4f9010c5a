"""
Games: a generator, a critic, and how they stand
================================================

A generator is a program without a density: it is fitted against a critic, which is trained beside it. This page plays
two games of a generator, watches how they stand, and then draws digits of a chosen class.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels.inference import EMA, GameHealth, LearningRate
from ppl_genmodels.models import GAN

angle = 2 * torch.pi * torch.arange(8) / 8
centres = 2 * torch.stack([angle.cos(), angle.sin()], -1)


def ring(count, seed):
    generator = torch.Generator().manual_seed(seed)
    mode = torch.randint(8, (count,), generator=generator)
    return centres[mode] + 0.1 * torch.randn(count, 2, generator=generator)


def adam(rate):
    return lambda parameters: torch.optim.Adam(parameters, rate, betas=(0.5, 0.9), fused=True)


# %%
# Two games
# ---------
#
# Eight modes on a ring. In the first game, the original one, a critic that learns thirty times faster than the program
# soon leaves the samples on two of the modes. In the second the critic tells how far samples are to go. ``GameHealth``
# measures both every 50 steps, and knows what a mode is; where a game fails it warns, with a remedy.

STEPS = 2000
games = {
    "minimax, fast critic": (3e-4, {"divergence": "minimax", "critic_rate": 1e-2}),
    "Wasserstein": (
        2e-3,
        {"divergence": "wasserstein", "gradient_penalty": 1.0, "critic_steps": 3, "critic_rate": 2e-3},
    ),
}
fitted, health = {}, {}
for name, (rate, options) in games.items():
    torch.manual_seed(0)
    program = GAN(event_shape=(2,), latent_dim=4, hidden=(64, 64), **options)
    health[name] = GameHealth(every=50, modes=centres, radius=0.3)
    falling = LearningRate(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS))
    fitted[name] = ppl.fit(
        program,
        ring(20_000, seed=0),
        steps=STEPS,
        batch_size=128,
        optimizer=adam(rate),
        callbacks=[falling, EMA(0.99), health[name]],
        compile="trace",
        progress=False,
    )
    print(f"{name}: {', '.join(health[name].present) or 'no failure'}")

# %%
# How both games went
# -------------------
#
# What the critic tells, what the samples cover, the gradients of both players, and the course of the samples' mean.

diagnostics.plot_game(fitted["minimax, fast critic"])

# %%

diagnostics.plot_game(fitted["Wasserstein"])

# %%
# The samples beside held-out points, each by the measures that judge samples.

torch.manual_seed(1)
test = ring(2000, seed=1)
draws = {name: found.program.generate(2000) for name, found in fitted.items()}
rows = []
for name, drawn in draws.items():
    modes = diagnostics.modes_covered(drawn, centres, radius=0.3)
    told = diagnostics.classifier_two_sample(drawn, test)
    near = diagnostics.precision_recall(drawn, test)
    rows.append(
        {
            "game": name,
            "modes": modes.covered,
            "at a mode": modes.high_quality,
            "told apart": told.accuracy,
            "precision": near.precision,
            "recall": near.recall,
            "Wasserstein": diagnostics.sliced_wasserstein(drawn, test),
        }
    )
pd.DataFrame(rows).set_index("game").round(3)

# %%

figure, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
for axis, (name, points) in zip(axes, {"held-out points": test, **draws}.items(), strict=True):
    axis.scatter(*points.T, s=3, color="#3f90da" if name == "held-out points" else "#bd1f01")
    axis.set(title=name, xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), xticks=[], yticks=[], aspect="equal")

# %%
# Digits of a class
# -----------------
#
# Data with labels make the program conditional: generator and critic are given the label. Samples that are copies of
# the training data would be nearer to them than new data are.

pictures, kinds = load_digits(return_X_y=True)
x, held_out, y, _ = train_test_split(pictures.astype("float32") / 16, kinds, test_size=300, random_state=0)
train = {"x": x, "y": y}
torch.manual_seed(0)
digits = GAN(
    event_shape=(64,),
    latent_dim=16,
    hidden=(256, 256),
    classes=10,
    bounded=True,
    divergence="wasserstein",
    critic_steps=3,
    critic_rate=1e-3,
)
falling = LearningRate(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS))
ppl.fit(
    digits,
    train,
    steps=STEPS,
    batch_size=128,
    optimizer=adam(1e-3),
    callbacks=[falling, EMA(0.99)],
    compile="trace",
    progress=False,
)
labels = torch.arange(10).repeat(100)
made = (16 * digits.generate(labels)).round() / 16  # in the levels of the data
print(diagnostics.classifier_two_sample(made, held_out))
print(diagnostics.nearest_neighbours(made[:300], train["x"], held_out))

# %%

figure, axes = plt.subplots(8, 10, figsize=(6, 5), layout="constrained")
for number, axis in enumerate(axes.flat):
    axis.imshow(made[number].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
figure.suptitle("One column for each label")
plt.show()
