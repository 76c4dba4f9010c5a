"""
Your own program, from a blank file
===================================

Shops count their customers' visits. Some customers come on working days and some at weekends, and
some come more often than others. How many of each kind are there, and who is who? That is a program
with a discrete latent and a positive one, nested: how often one comes depends on one's kind.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, guides, networks

# %%
# Data
# ----
#
# Visits on seven days by 1000 customers to fit and 300 new ones. They are drawn here, so that one
# can check in the end what was found.

random = np.random.default_rng(0)
profiles = np.array([[1, 1, 1, 1, 1, 0.3, 0.1], [0.2, 0.2, 0.2, 0.3, 1, 3, 2]])
profiles /= profiles.mean(1, keepdims=True)
true_kind = random.choice(2, size=1300, p=[0.7, 0.3])
true_activity = random.lognormal(np.where(true_kind == 0, 0.8, -0.2), 0.5)
visits = random.poisson(true_activity[:, None] * profiles[true_kind]).astype("float32")
train, new = visits[:1000], visits[1000:]
print(visits[:3])

# %%
# Write
# -----
#
# Two kinds, each with its own profile over the week and its own activity, all to be learned.


class Visits(nn.Module):
    """Counts of visits by customers of two kinds."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.zeros(2))
        self.profile = nn.Parameter(0.1 * torch.randn(2, 7))
        self.activity = nn.Parameter(torch.zeros(2))
        self.log_spread = nn.Parameter(torch.tensor(-0.5))

    def model(self, visits=None):
        with pyro.plate("customers", 1 if visits is None else len(visits)):
            kind = pyro.sample("kind", dist.Categorical(logits=self.share))
            typical, spread = self.activity[kind], self.log_spread.exp()
            activity = pyro.sample("activity", dist.LogNormal(typical, spread))
            rate = 7 * activity.unsqueeze(-1) * self.profile.softmax(-1)[kind]
            pyro.sample("visits", dist.Poisson(rate).to_event(1), obs=visits)


# %%
# The guide is written from the model: a categorical for ``kind``, a positive distribution for
# ``activity`` given ``kind``, both read off the visits by one encoder. Counts enter it on a
# logarithmic scale.


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = networks.MLP(7, 32, hidden=(64,))

    def forward(self, visits):
        return self.network(visits.log1p()).relu()


torch.manual_seed(0)
model = Visits().model
program = ppl.as_program((model, guides.Amortized(model, Encoder())))
program.structure(torch.as_tensor(train))
program

# %%
# The graph of the program as it meets the data: what is observed is grey, the box is the plate.
#
# Fit
# ---
#
# ``kind`` has no reparameterization, so its gradient is the score-function one, unbiased; eight
# particles keep it quiet.

fitted = ppl.fit(
    program,
    train,
    epochs=150,
    batch_size=32,
    num_particles=8,
    validation=0.1,
    progress=False,
)
diagnostics.plot_history(fitted)

# %%
# Infer on new customers
# ----------------------
#
# The dim of the rows is named after the plate.

posterior = fitted.infer(new, num_samples=500, predictive=True, seed=0)
print(posterior.posterior)

# %%
# Check
# -----
#
# Kinds have no names of their own, so the learned ones may be swapped against the true ones.

draws = posterior.posterior
kind = draws["kind"].mean(("chain", "draw")).values > 0.5
right = (kind == true_kind[1000:]).mean()
print(f"right kind for {100 * max(right, 1 - right):.0f} % of new customers")

low, high = draws["activity"].quantile([0.05, 0.95], ("chain", "draw")).values
inside = (low < true_activity[1000:]) & (true_activity[1000:] < high)
print(f"90 % intervals hold the true activity of {100 * inside.mean():.0f} % of them")

# %%
# Without the truth at hand: do data that the program would make look like the data?

diagnostics.plot_predictive(posterior)

# %%
# Are its intervals as wide as they should be? A little wider is expected here: the activity of each
# customer was inferred from the very counts that are compared.

# sphinx_gallery_thumbnail_number = 3
diagnostics.plot_calibration(posterior)
print(diagnostics.describe_calibration(posterior))

# %%
# Is the guide near the posterior? For customers above 0.7 trust means rather than spreads.

diagnostics.plot_khat(posterior)
print(diagnostics.describe_khat(posterior))
