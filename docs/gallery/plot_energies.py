"""
Energies: learned, composed, normalised
=======================================

An energy-based model is any network that gives one number for a point: the density is the exponential of minus it, up
to a normalizer that nobody computes. This page learns the energy of a point cloud in three ways, draws from it by
Langevin chains, adds two energies so that their densities multiply, and estimates normalizers by annealed importance
sampling, beside what a fine grid says.
"""

import math
import time

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import make_moons
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Energy, EnergySum, NoisyEnergy, annealed_langevin, langevin
from ppl_genmodels.inference import LearningRate, annealed_importance
from ppl_genmodels.models import EnergyModel
from ppl_genmodels.networks import Denoiser, EnergyGradient, TimeMLP, VarianceExploding


def moons(count, seed):
    return torch.tensor(2 * make_moons(count, noise=0.1, random_state=seed)[0], dtype=torch.float32)


train, test = moons(4000, seed=0), moons(1000, seed=1)

# %%
# Three ways to learn
# -------------------
#
# The program is a normal density tilted by a network; it has no guide, as there is nothing latent. Telling data from
# noise, which is drawn from that normal density, learns the normalizer as a parameter; contrastive divergence, here by
# chains that go on from step to step, and score matching do without.

ways = {
    "telling from noise": (obj.noise_contrastive("x", ratio=4), 400),
    "contrastive divergence": (obj.contrastive_divergence("x", steps=10, persistent=True), 400),
    "score matching": (obj.score_matching("x", noise=0.15), 500),
}


def learned(program, objective, data, steps, rate=1e-2):
    decay = LearningRate(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps))
    ppl.fit(
        program,
        data,
        objective=objective,
        steps=steps,
        batch_size=500,
        optimizer=lambda parameters: torch.optim.Adam(parameters, rate, fused=True),
        callbacks=[decay],
        compile="trace",
        progress=False,
    )
    return program


def energy_model():
    torch.manual_seed(0)
    return EnergyModel(data_dim=2, steps=200)


programs, seconds = {}, {}
for way, (objective, steps) in ways.items():
    print(f"{way}: {objective}")
    begun = time.perf_counter()
    programs[way] = learned(energy_model(), objective, train, steps)
    seconds[way] = time.perf_counter() - begun

# %%
# Normalizers, densities and draws
# --------------------------------
#
# Chains of importance sampling begin at the program's normal density. Put in the place of the log-normalizer, the
# estimate makes the energy a density, whose mean over held-out points can be read. Draws are compared with held-out
# points by a classifier: 0.5 says that it cannot tell them apart.


CELL = 0.04
axis = torch.arange(-10.0, 10.0, CELL)
points = torch.cartesian_prod(axis, axis)


def by_grid(log_density):
    with torch.no_grad():
        return log_density(points).logsumexp(0).item() + 2 * math.log(CELL)


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
# All estimates agree with the grid to a few hundredths of a nat. Score matching has learned the points with the noise
# that it was given, which costs it some of the density. Below are held-out points and the surface of one of the
# energies; then of each the draws of its chains above its density.

figure, axes = plt.subplots(2, 4, figsize=(12.5, 5.4), layout="constrained")
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
    return points[cells] + CELL * (torch.rand(count, 2) - 0.5)


def product(x):
    return ring(x) + bell(x)


start = dist.Normal(torch.zeros(2), 2.0).to_event(1)
known = [Energy(lambda x: -ring(x), (2,)), Energy(lambda x: -bell(x), (2,))]
parts = []
for log_density in (ring, bell):
    cloud = exact_draws(log_density, 8000, seed=2)
    parts.append(learned(energy_model(), obj.noise_contrastive("x", ratio=4), cloud, steps=400).density())
sums = {
    "known energies": Energy(EnergySum(known), (2,), start=start, steps=300, step_size=0.05),
    "learned energies": Energy(EnergySum(parts), (2,), start=start, steps=300, step_size=0.05),
}

# %%
# Beside draws of the exact product, the classifier; beside the grid's normalizer of each sum, the estimate.

exact = exact_draws(product, 1000, seed=3)
rows, composed = [], {}
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

# %%
# The classifier cannot tell draws of the known energies' sum from the exact product's, and draws of the learned ones'
# sum hardly. Each normalizer agrees with the grid's to its standard error.
#
# All levels of noise
# -------------------
#
# Chains seldom cross from one mode to another, so that where they begin decides how many end in each. A network that
# knows the noise has an energy for each level of it: learned by score matching at all levels together, it is drawn from
# by chains that go from much noise, where nothing is in the way, to little. Of four clouds one has half of the points,
# one a quarter.

places, shares = torch.tensor([[-3.0, -3.0], [-3.0, 3.0], [3.0, -3.0], [3.0, 3.0]]), torch.tensor([4.0, 2.0, 1.0, 1.0])
clouds = dist.MixtureSameFamily(dist.Categorical(shares), dist.Normal(places, 0.4).to_event(1))


class NoisyPoints(nn.Module):
    """Points whose energy is known at all levels of noise."""

    def __init__(self):
        super().__init__()
        network = EnergyGradient(TimeMLP(2, width=64, blocks=2))
        self.denoiser = Denoiser(network, VarianceExploding(0.1, 8.0), data_scale=3.0)
        self.energy = NoisyEnergy(self.denoiser)

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", Energy(self.energy, (2,)), obs=x)


torch.manual_seed(0)
noisy = learned(NoisyPoints(), obj.score_matching("x"), clouds.sample((4000,)), steps=600, rate=5e-3)
begun = 8 * torch.randn(1000, 2)
found = {
    "points": clouds.sample((1000,)),
    "annealed chains": annealed_langevin(noisy.denoiser, begun, levels=15, steps=40),
    "chains at least noise": langevin(Energy(noisy.energy, (2,)).log_density, begun, steps=600, step_size=0.02),
}


def share_of_each(drawn):
    nearest = torch.cdist(drawn, places).argmin(1)
    return [(nearest == number).float().mean().item() for number in range(4)]


table = pd.DataFrame({name: share_of_each(drawn) for name, drawn in found.items()})
table.insert(0, "truth", shares.numpy() / 8)
table.rename_axis("cloud").T.round(2)

# %%

figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.2), layout="constrained")
across = torch.linspace(-6.5, 6.5, half)
near = torch.cartesian_prod(across, across)
for axis, level in zip(axes, (0.8, 0.4), strict=False):
    with torch.no_grad():
        surface = NoisyEnergy(noisy.denoiser, level)(near).reshape(half, half).T
    axis.contourf(across, across, (surface - surface.min()).clamp(max=12), levels=20, cmap="viridis_r")
    sigma = noisy.denoiser.noising.sigma(torch.tensor(level))
    axis.set(title=f"energy with noise of {sigma:.2f}")
for axis, name in zip(axes[2:], ("annealed chains", "chains at least noise"), strict=True):
    axis.scatter(*found[name].T, s=2, color="#bd1f01")
    axis.set(title=name)
for axis in axes:
    axis.set(xlim=(-6.5, 6.5), ylim=(-6.5, 6.5), xticks=[], yticks=[], aspect="equal")
