"""
Linear regression: two engines and the truth
============================================

Progression of diabetes in 442 patients, from six measurements. With a known noise scale the posterior of a linear
regression is a normal distribution that can be written down, so both engines can be held against it.
"""

import functools

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes
from torch.optim.lr_scheduler import CosineAnnealingLR

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, guides
from ppl_genmodels.inference import LearningRate

features = ["age", "sex", "bmi", "bp", "s5", "s6"]
frame = load_diabetes(as_frame=True).frame
standardised = (frame - frame.mean()) / frame.std()
data = {"x": standardised[features].to_numpy(), "y": standardised["target"].to_numpy()}
coords = {"slope_dim_0": features}
program = ppl.models.LinearRegression(num_features=6, prior_scale=1.0, noise_scale=0.7)

# %%
# The truth
# ---------
# Coefficients are normal with precision :math:`I + X^T X / \sigma^2`.

design = np.column_stack([np.ones(len(data["x"])), data["x"]])
covariance = np.linalg.inv(np.eye(7) + design.T @ design / 0.7**2)
exact = pd.DataFrame(
    {"mean": covariance @ design.T @ data["y"] / 0.7**2, "sd": np.sqrt(np.diag(covariance))},
    index=["intercept", *features],
)

# %%
# Two engines
# -----------
# The guide is a joint normal distribution, so here it can be exact; the sampler needs no guide.

torch.manual_seed(0)
guide = guides.AutoMultivariateNormal(program.model)
fitted = ppl.fit(
    (program.model, guide),
    data,
    batch_size=442,
    steps=2000,
    num_particles=8,
    optimizer=functools.partial(torch.optim.Adam, lr=0.02),
    callbacks=[LearningRate(lambda optimizer: CosineAnnealingLR(optimizer, T_max=2000))],
    progress=False,
)
posteriors = {
    "SVI": fitted.infer(data, num_samples=4000, coords=coords, seed=0),
    "NUTS": ppl.nuts(program, data, num_samples=1000, warmup=500, chains=2, coords=coords),
}

# %%
# Means and standard deviations, side by side
# -------------------------------------------
# All three columns should agree up to the noise of the draws.

columns = {("exact", name): exact[name] for name in exact}
for name, posterior in posteriors.items():
    summary = diagnostics.summary(posterior).set_axis(exact.index)
    columns[name, "mean"], columns[name, "sd"] = summary["mean"], summary["sd"]
side_by_side = pd.DataFrame(columns).round(3)
side_by_side

# %%
# How far each mean lies from the truth, in posterior standard deviations:

for name in posteriors:
    distance = (side_by_side[name, "mean"] - exact["mean"]).abs() / exact["sd"]
    print(f"{name}: at most {distance.max():.2f} standard deviations, {distance.idxmax()}")
print(diagnostics.describe_khat(posteriors["SVI"]))
