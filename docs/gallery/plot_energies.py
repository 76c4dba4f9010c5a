"""
Energies: learned, composed, normalised
=======================================

An energy-based model is any network that gives one number for a point: the density is the exponential of minus it, up
to a normalizer that nobody computes. This page learns the energy of a point cloud in three ways, draws from it by
Langevin chains, adds two energies so that their densities multiply, and estimates normalizers by annealed importance
sampling, beside what a fine grid says.
"""

import time

import matplotlib.pyplot as plt
import pandas as pd
import pyro.distributions as dist
import torch
from sklearn.datasets import make_moons

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Energy, EnergySum
from ppl_genmodels.inference import LearningRate, annealed_importance
from ppl_genmodels.models import EnergyModel


def moons(count, seed):
    return torch.tensor(2 * make_moons(count, noise=0.1, random_state=seed)[0], dtype=torch.float32)


train, test = moons(4000, seed=0), moons(1000, seed=1)

# %%
# Three ways to learn
# -------------------
#
# The program is a normal density tilted by a network; it has no guide, as there is nothing latent. Telling data from
# noise learns the normalizer as a parameter; contrastive divergence, here by chains that go on from step to step, and
# score matching do without.

program = EnergyModel(data_dim=2)
noise = dist.Normal(train.mean(0), 1.3 * train.std(0)).to_event(1)
ways = {
    "telling from noise": (obj.noise_contrastive("x", noise=noise, ratio=4), 400),
    "contrastive divergence": (obj.contrastive_divergence("x", steps=10, persistent=True), 400),
    "score matching": (obj.score_matching("x", noise=0.15), 500),
}


def learned(objective, data, steps):
    torch.manual_seed(0)
    program = EnergyModel(data_dim=2, steps=200)
    decay = LearningRate(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps))
    ppl.fit(
        program,
        data,
        objective=objective,
        steps=steps,
        batch_size=500,
        optimizer=lambda parameters: torch.optim.Adam(parameters, 1e-2, fused=True),
        callbacks=[decay],
        compile="trace",
        progress=False,
    )
    return program


programs, seconds = {}, {}
for way, (objective, steps) in ways.items():
    print(f"{way}: {objective}")
    begun = time.perf_counter()
    programs[way] = learned(objective, train, steps)
    seconds[way] = time.perf_counter() - begun

# %%
# Normalizers, densities and draws
# --------------------------------
#
# Chains of importance sampling begin at the program's normal density. Put in the place of the log-normalizer, the
# estimate makes the energy a density, whose mean over held-out points can be read. Draws are compared with held-out
# points by a classifier: 0.5 says that it cannot tell them apart.


def grid_of(half, count):
    axis = torch.linspace(-half, half, count)
    return torch.cartesian_prod(axis, axis), 2 * torch.tensor(2 * half / (count - 1)).log()


points, log_cell = grid_of(12.0, 801)


def by_grid(log_density):
    with torch.no_grad():
        return (log_density(points).logsumexp(0) + log_cell).item()


rows, draws = [], {}
for way, program in programs.items():
    energy = program.density()
    found = annealed_importance(energy)
    with torch.no_grad():
        program.log_normalizer.fill_(found.value)
        held_out = program.density().log_prob(test)
    torch.manual_seed(1)
    draws[way] = energy.sample((1000,))
    told = diagnostics.classifier_two_sample(draws[way], test)
    rows.append(
        {
            "learned by": way,
            "seconds": seconds[way],
            "log Z by grid": by_grid(energy.log_density),
            "by AIS": found.value,
            "standard error": found.standard_error,
            "held-out log-density": held_out.mean().item(),
            "told apart": told.accuracy,
        }
    )
pd.DataFrame(rows).set_index("learned by").T.round(3)

# %%
# Held-out points and the surface of one of the energies; then of each the draws of its chains above its density.

figure, axes = plt.subplots(2, 4, figsize=(12.5, 6.4), layout="constrained")
box, half = (-3.2, 5.2, -3.0, 4.0), 200
across, up = torch.linspace(*box[:2], half), torch.linspace(*box[2:], half)
near = torch.cartesian_prod(across, up)
axes[0, 0].scatter(*test.T, s=3, color="#3f90da")
axes[0, 0].set(title="held-out points")
with torch.no_grad():
    surface = -programs["telling from noise"].density().log_density(near).reshape(half, half).T
levels = axes[1, 0].contourf(across, up, surface.clamp(max=20), levels=20, cmap="viridis_r")
axes[1, 0].set(title="energy, told from noise")
figure.colorbar(levels, ax=axes[:, 0], location="left", shrink=0.7, label="energy (nats)")
for (way, program), (above, below) in zip(programs.items(), axes[:, 1:].T, strict=True):
    with torch.no_grad():
        density = program.density().log_prob(near).exp().reshape(half, half).T
    above.scatter(*draws[way].T, s=3, color="#bd1f01")
    above.set(title=f"draws: {way}")
    below.imshow(density, extent=box, origin="lower", cmap="viridis", vmax=density.quantile(0.995))
    below.set(title="density")
for axis in axes.flat:
    axis.set(xlim=box[:2], ylim=box[2:], xticks=[], yticks=[], aspect="equal")

# %%
# Two energies added
# ------------------
#
# The sum of two energies is the energy of the product of their densities. Here both densities are known, a ring and a
# bell, so that the exact product can be drawn from a fine grid. It is sampled twice: from the known energies, and from
# energies that were learned from points of each density, neither of which has seen the product.


def ring(x):
    return -0.5 * ((x.norm(dim=-1) - 2.0) / 0.35).square()


def bell(x):
    return -0.5 * ((x - torch.tensor([1.5, 0.5])) / 1.2).square().sum(-1)


def exact_draws(log_density, count, seed):
    torch.manual_seed(seed)
    cells = dist.Categorical(logits=log_density(points)).sample((count,))
    return points[cells] + (torch.rand(count, 2) - 0.5) * 24.0 / 800


def product(x):
    return ring(x) + bell(x)


start = dist.Normal(torch.zeros(2), 2.0).to_event(1)
known = [Energy(lambda x: -ring(x), (2,)), Energy(lambda x: -bell(x), (2,))]
parts = []
for log_density in (ring, bell):
    cloud = exact_draws(log_density, 8000, seed=2)
    around = dist.Normal(cloud.mean(0), 1.3 * cloud.std(0)).to_event(1)
    parts.append(learned(obj.noise_contrastive("x", noise=around, ratio=4), cloud, steps=400).density())
sums = {
    "known energies": Energy(EnergySum(known), (2,), start=start, steps=300, step_size=0.05),
    "learned energies": Energy(EnergySum(parts), (2,), start=start, steps=300, step_size=0.05),
}

# %%
# Beside draws of the exact product, the classifier; beside the grid's normalizer of each sum, the estimate.

exact, again = (exact_draws(product, 1000, seed) for seed in (3, 4))
rows, composed = [], {}
told = diagnostics.classifier_two_sample(again, exact)
rows.append({"product of": "exact draws again", "told apart": told.accuracy, "its error": told.standard_error})
for name, energy in sums.items():
    torch.manual_seed(5)
    composed[name] = energy.sample((1000,))
    told, found = diagnostics.classifier_two_sample(composed[name], exact), annealed_importance(energy)
    rows.append(
        {
            "product of": name,
            "told apart": told.accuracy,
            "its error": told.standard_error,
            "log Z by grid": by_grid(energy.log_density),
            "by AIS": found.value,
            "standard error": found.standard_error,
        }
    )
pd.DataFrame(rows).set_index("product of").T.round(3)

# %%

figure, axes = plt.subplots(1, 5, figsize=(13, 3), layout="constrained")
box = (-3.2, 4.0, -3.2, 3.2)
across, up = torch.linspace(*box[:2], half), torch.linspace(*box[2:], half)
near = torch.cartesian_prod(across, up)
for axis, log_density in zip(axes, (ring, bell, product), strict=False):
    density = log_density(near).exp().reshape(half, half).T
    axis.imshow(density, extent=box, origin="lower", cmap="viridis")
    axis.set(title=log_density.__name__)
for axis, (name, drawn) in zip(axes[3:], composed.items(), strict=True):
    axis.scatter(*drawn.T, s=2, color="#bd1f01")
    axis.set(title=f"draws: {name}")
for axis in axes:
    axis.set(xlim=box[:2], ylim=box[2:], xticks=[], yticks=[], aspect="equal")
