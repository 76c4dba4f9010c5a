"""
A network whose weights are latent: Flipout
===========================================

A posterior over the weights of a network is a posterior over functions. All data of a batch share one draw of the
weights, so that larger batches hardly make the gradient quieter; Flipout (Wen and others 2018) gives every datum its
own signs, and they do.
"""

import functools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import ppl_genmodels as ppl
from ppl_genmodels import guides, handlers, networks
from ppl_genmodels import objectives as obj
from ppl_genmodels.inference import LearningRate

generator = np.random.default_rng(0)
x = np.concatenate([generator.uniform(-2, -0.7, 150), generator.uniform(0.6, 1.4, 106)]).astype("float32")
x = generator.permutation(x)
data = {"x": x[:, None], "y": np.sin(2 * x) + 0.15 * generator.standard_normal(256, dtype="float32")}

# %%
# The model
# ---------
# ``weight_sites`` makes every weight a latent site. The network is called outside the plate, as all data share it.


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = networks.weight_sites(networks.MLP(1, 1, hidden=(30,), activation=nn.Tanh))

    def model(self, x, y=None):
        mean = self.network(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, 0.15), obs=y)


torch.manual_seed(0)
regression = Regression()
program = ppl.Program(regression.model, guides.AutoNormal(regression.model, init_scale=0.05))
fitted = ppl.fit(
    handlers.flipout(program),
    data,
    batch_size=256,
    steps=3000,
    optimizer=functools.partial(torch.optim.Adam, lr=0.02),
    callbacks=[LearningRate(lambda optimizer: CosineAnnealingLR(optimizer, T_max=3000))],
    progress=False,
)

# %%
# Functions from the posterior
# ----------------------------
# Draws of the weights are those of ``infer``; a network conditioned on them computes their functions. They spread where
# there are no data, and less between the two groups than the exact posterior does, as is known of guides whose weights
# are independent (Foong and others 2020, On the Expressiveness of Approximate Inference in Bayesian Neural Networks).

draws = fitted.infer(data, num_samples=200, seed=0).posterior
grid = torch.linspace(-3, 3, 121)[:, None]
weights = {name: torch.as_tensor(draws[name].values[0]) for name in draws if name.startswith("network.")}
with torch.no_grad(), pyro.plate("draws", 200, dim=-2):
    held = {name: value.unsqueeze(1) for name, value in weights.items()}
    functions = pyro.poutine.condition(regression.network, held)(grid).squeeze(-1)

figure, axes = plt.subplots(figsize=(7, 3.5))
axes.plot(grid[:, 0], functions[:20].T, color="C0", alpha=0.3, linewidth=1)
axes.plot(grid[:, 0], functions.mean(0), color="C0")
axes.scatter(data["x"], data["y"], s=6, color="black", zorder=3)
axes.set(xlabel="x", ylabel="y", title="Twenty functions from the posterior, their mean, and the data")
figure.tight_layout()

# %%
# The gradient's variance
# -----------------------
# That of the log-likelihood, summed over the guide's parameters, from 200 draws at each size of the batch.


def variance(program, rows):
    batch = {name: torch.as_tensor(values[:rows]) for name, values in data.items()}
    parameters = list(program.parameters())
    losses = (obj.log_lik().loss(program, **batch) for _ in range(200))
    gradients = [torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)]) for loss in losses]
    return torch.stack(gradients).var(0).sum().item()


sizes = [1, 4, 16, 64, 256]
methods = {"one draw for all data": program, "Flipout": handlers.flipout(program)}
variances = pd.DataFrame({name: [variance(each, n) for n in sizes] for name, each in methods.items()}, index=sizes)

figure, axes = plt.subplots(figsize=(7, 3.5))
variances.plot(logx=True, logy=True, marker="o", ax=axes)
axes.set(xlabel="size of the batch", ylabel="variance of the gradient")
figure.tight_layout()
variances.round(2)
