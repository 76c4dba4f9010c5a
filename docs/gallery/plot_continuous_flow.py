"""
Continuous flows, by likelihood and by matching
===============================================

A continuous flow moves points along a velocity field, from Gaussian noise at time 0 to data at time 1, and gets their
density by integrating the divergence of the field along the way. This page fits one to two moons in four ways: by
maximum likelihood, with and without a penalty on the paths, and by flow matching, with two ways to pair noise and data.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torchdiffeq
from sklearn.datasets import make_moons

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.inference import Evaluations, LearningRate
from ppl_genmodels.models import ContinuousFlow


def moons(count, seed):
    return torch.tensor(make_moons(count, noise=0.08, random_state=seed)[0], dtype=torch.float32)


train, test = moons(2000, seed=0), moons(1000, seed=1)

# %%
# Four fits of one program
# ------------------------
#
# The program is in the catalogue: one observed site, whose distribution is a flow of a continuous layer and a layer
# that standardises. What differs is the objective. Likelihoods need a solve of the path of every point at every step;
# the penalties are integrated in the same solve. Flow matching needs none: it is a regression on straight lines from
# noise to data, and so can afford many more steps.

penalties = obj.kinetic_energy("x") + obj.jacobian_norm("x")
objectives = {
    "likelihood": obj.elbo(),
    "likelihood, penalised": obj.elbo() - 0.05 * penalties,
    "matching": obj.flow_matching("x"),
    "matching, transport": obj.flow_matching("x", pairing="optimal_transport"),
}
steps = {"likelihood": 180, "likelihood, penalised": 180, "matching": 3000, "matching, transport": 1800}


def fitted(objective, steps, batch_size, rate):
    torch.manual_seed(0)
    program, evaluations = ContinuousFlow(2, hidden=(32, 32, 32)), Evaluations()
    decay = LearningRate(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps))
    ppl.fit(
        program,
        train,
        objective=objective,
        steps=steps,
        batch_size=batch_size,
        optimizer=lambda p: torch.optim.Adam(p, rate, fused=True),
        callbacks=[decay, evaluations],
        compile="off",
        progress=False,
    )
    return program, evaluations


fits = {
    name: fitted(objective, steps[name], *((200, 1e-2) if "matching" in name else (100, 2e-2)))
    for name, objective in objectives.items()
}

# %%
# Held-out densities, and what they cost
# --------------------------------------
#
# The mean log-density of points that were not fitted, in nats; how often the solver evaluated the field for it; and the
# kinetic energy and the squared Jacobian along the paths.

rows = {}
for name, (program, _) in fits.items():
    found = (obj.log_lik() + penalties).evaluate(program, test)
    rows[name] = {
        "steps": steps[name],
        "log-density": found["log_lik"].mean().item(),
        "evaluations": program.transforms[0].evaluations,
        "kinetic energy": found["kinetic_energy[x]"].mean().item(),
        "Jacobian": found["jacobian_norm[x]"].mean().item(),
    }
pd.DataFrame(rows).T.round(2)

# %%
# Densities and paths
# -------------------
#
# The same draws of noise (small, grey) travel to the data (dark) in each fit.

torch.manual_seed(0)
noise, times = torch.randn(120, 2), torch.linspace(0, 1, 40)
across, up = torch.linspace(-1.7, 2.7, 140), torch.linspace(-1.2, 1.7, 100)
grid = torch.cartesian_prod(across, up)
figure, axes = plt.subplots(2, 4, figsize=(11, 4.0), layout="constrained")
for column, (name, (program, _)) in enumerate(fits.items()):
    layer, standard = program.transforms
    with torch.no_grad():
        density = program.density().log_prob(grid).exp().reshape(140, 100)
        paths = standard(torchdiffeq.odeint(layer.velocity, noise, times, rtol=1e-4, atol=1e-4))
    axes[0, column].pcolormesh(across, up, density.T, cmap="viridis", vmax=density.quantile(0.995))
    axes[0, column].set(title=name, aspect="equal")
    axes[1, column].plot(*paths.permute(2, 0, 1), color="#3f90da", alpha=0.6, linewidth=0.8)
    axes[1, column].scatter(*paths[0].T, s=2, color="#94a4a2", zorder=2)
    axes[1, column].scatter(*paths[-1].T, s=3, color="#832db6", zorder=3)
    axes[1, column].set(xlim=(-1.7, 2.7), ylim=(-1.2, 1.7), aspect="equal")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
for axis, label in zip(axes[:, 0], ("density", "paths"), strict=True):
    axis.set_ylabel(label)

# %%
# Likelihood makes the most of few steps, each of which takes far longer than one of matching. Lines between
# independent pairs cross, so that the paths that are learned bend, and a solver evaluates the field most often. Pairs
# that transport joins give paths that are almost straight and cheapest to solve; their density is still blurred between
# the moons after so short a fit.

# %%
# Evaluations over training
# -------------------------
#
# As a field becomes steeper, an adaptive solver takes shorter steps. The penalties hold that back a little here, where
# the fit is short; they halve the kinetic energy.

by_likelihood = {name: evaluations for name, (_, evaluations) in fits.items() if "likelihood" in name}
most = max(max(evaluations.counts) for evaluations in by_likelihood.values())
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for (name, evaluations), axis in zip(by_likelihood.items(), axes, strict=True):
    diagnostics.plot_evaluations(evaluations, axis).set(title=name, ylim=(0, 1.05 * most))
