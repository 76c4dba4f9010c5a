"""
A mixture of clusters that does not collapse
============================================

A variational autoencoder whose latent numbers come from one of ten clusters. Which one is a
discrete site, so its gradient needs an estimator, here Gumbel-Softmax. Programs like this often end
with one cluster in use, or with a label that says nothing; this page shows why, and what avoids it.
The data are the 1797 grey 8×8 digits of scikit-learn. Their labels are not used in the fit.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn.functional import softplus

import ppl_genmodels as ppl
from ppl_genmodels import handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions.relaxed import Relaxed
from ppl_genmodels.networks import MLP

train, test = ppl.data.load("digits", "train"), ppl.data.load("digits", "test")
CLUSTERS, LATENT, PIXELS = 10, 8, 64

# %%
# The program
# -----------
#
# A cluster, a position around its centre, a digit. The guide reads both off the digit. The label is
# a one-hot vector, so that what depends on it is written as a product: that is what lets a relaxed
# label, a mixture of clusters, pass.


class Mixture(nn.Module):
    """Digits from latent numbers that come from one of several clusters."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(CLUSTERS, LATENT))
        self.raw_scales = nn.Parameter(torch.full((CLUSTERS, LATENT), 0.5))
        self.raw_noise = nn.Parameter(torch.tensor(-1.0))
        self.decoder = MLP(LATENT, PIXELS, hidden=(200,))
        self.label = MLP(PIXELS, CLUSTERS, hidden=(200,))
        self.position = MLP(PIXELS, 2 * LATENT, hidden=(200,))
        self.register_buffer("prior_logits", torch.zeros(CLUSTERS))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.prior_logits))
            scale = softplus(y @ self.raw_scales) + 1e-3
            z = pyro.sample("z", dist.Normal(y @ self.centres, scale).to_event(1))
            noise = softplus(self.raw_noise) + 1e-3
            pyro.sample("x", dist.Normal(self.decoder(z), noise).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.OneHotCategorical(logits=self.label(x)))
            loc, raw_scale = self.position(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, softplus(raw_scale) + 1e-3).to_event(1))


# %%
# What a label is worth
# ---------------------
#
# Two numbers tell the two ways to collapse. *Clusters used*: the exponential of the entropy of the
# mean responsibilities; 1 when all digits are in one cluster. It is 10 as well when every digit is
# in all of them alike, so it says nothing by itself. *Clusters told apart*: the exponential of the
# mutual information of digit and label; 1 in both. Accuracy is that of the best matching of clusters
# to digits; by chance it is 0.1.


def judge(program, held_out):
    """Clusters used, clusters told apart, accuracy, and how many of each digit each cluster holds."""
    with torch.no_grad():
        responsibilities = program.label(torch.from_numpy(held_out.data)).softmax(-1)
    used = torch.distributions.Categorical(responsibilities.mean(0)).entropy()
    within = torch.distributions.Categorical(responsibilities).entropy().mean()
    counts = np.zeros((CLUSTERS, 10), dtype=int)
    np.add.at(counts, (responsibilities.argmax(-1).numpy(), held_out.labels), 1)
    accuracy = counts[linear_sum_assignment(-counts)].sum() / counts.sum()
    return used.exp().item(), (used - within).exp().item(), accuracy, counts


def fit(density, objective):
    """A program fitted with Gumbel-Softmax at its label."""
    torch.manual_seed(0)
    program = Mixture()
    relaxed = handlers.gumbel_softmax(program, sites="y", temperature=0.5, density=density)
    ppl.fit(
        relaxed,
        train.data,
        objective=objective,
        epochs=80,
        batch_size=64,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3, fused=True),
        progress=False,
    )
    return program


# %%
# What certainty costs
# --------------------
#
# The usual way prices the relaxed label by its own density, in guide and model alike, as
# ``pyro.distributions.RelaxedOneHotCategorical`` at the site does. That is a bound on the evidence
# of a *relaxed* program, and there certainty has another price. The divergence from a uniform
# prior, of a discrete label and of its relaxation:

prior = dist.OneHotCategorical(torch.full((CLUSTERS,), 1 / CLUSTERS))
for certainty in (0.5, 0.9, 0.99, 0.999):
    probabilities = torch.full((CLUSTERS,), (1 - certainty) / (CLUSTERS - 1))
    probabilities[0] = certainty
    sure = dist.OneHotCategorical(probabilities)
    discrete = torch.distributions.kl_divergence(sure, prior)
    guide, model = (Relaxed(each, torch.tensor(0.5)) for each in (sure, prior))
    draws = guide.rsample((20_000,))
    relaxed = (guide.log_prob(draws) - model.log_prob(draws)).mean()
    print(f"certainty {certainty}: {discrete:.2f} nats as a label, {relaxed:.2f} nats as a relaxation")

# %%
# A label costs at most log 10 = 2.3 nats, whatever it says. Its relaxation costs without bound. At
# first the label explains little, so its gradient points to where it costs nothing, which is where
# it says nothing; and once the decoder has learned to do without, it stays there.

objective = obj.elbo()
collapsed = fit("relaxed", objective)
used, apart, accuracy, _ = judge(collapsed, test)
print(f"relaxed price: {used:.1f} clusters used, {apart:.1f} told apart, accuracy {accuracy:.2f}")

# %%
# What avoids it
# --------------
#
# ``density="categorical"`` prices the label as what it is: in closed form, bounded, and without
# noise. Draws are relaxed as before. Nothing else is changed, neither the objective nor the seed.

program = fit("categorical", objective)
used, apart, accuracy, counts = judge(program, test)
print(f"price of a label: {used:.1f} clusters used, {apart:.1f} told apart, accuracy {accuracy:.2f}")

# %%
# One thing more matters: where the centres begin. These are drawn from a standard normal, about as far
# apart as clusters are wide. Three times as far, the cluster nearest to where the guide begins takes all
# digits, at any price of the label.
#
# The clusters: the digit at each centre, and which digits they hold.

digits = program.decoder(program.centres).detach().numpy()
figure, axes = plt.subplots(1, CLUSTERS, figsize=(9, 1.2))
for axis, digit in zip(axes, digits, strict=True):
    axis.imshow(digit.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
    axis.set_axis_off()

# %%
# Held-out digits: a row for each cluster, a column for each digit.

# sphinx_gallery_thumbnail_number = 2
figure, axis = plt.subplots(figsize=(4.5, 4.2), layout="constrained")
image = axis.imshow(counts, cmap="Blues")
axis.set_xlabel("digit")
axis.set_ylabel("cluster")
axis.set_xticks(range(10))
axis.set_yticks(range(CLUSTERS))
figure.colorbar(image, label="held-out images")
