"""
Eight schools: a guide beside a sampler
=======================================

Effects of coaching in eight schools, each measured with a known error and partially pooled (Rubin
1981). Here the latent sites are shared by all rows, the posterior is small and awkward, and a
sampler can say the truth: so one can see what two guides make of it.
"""

import functools

import pandas as pd
import torch

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, guides

schools = ppl.models.EightSchools()
data = schools.data()
names = list("ABCDEFGH")
pd.DataFrame({name: values.numpy() for name, values in data.items()}, index=names)

# %%
# One model, three posteriors
# ---------------------------
#
# The no-U-turn sampler needs no guide. ``AutoNormal`` takes all latent sites as independent,
# ``AutoMultivariateNormal`` lets them depend on one another linearly, both after mapping ``tau``
# from the positive numbers to the reals. All three give the same kind of posterior.

coords = {"schools": names}
posteriors = {"NUTS": ppl.nuts(schools, data, num_samples=1000, warmup=500, coords=coords)}
adam = functools.partial(torch.optim.Adam, lr=0.01)

for guide in (guides.AutoNormal, guides.AutoMultivariateNormal):
    torch.manual_seed(0)
    fitted = ppl.fit(
        (schools.model, guide(schools.model)),
        data,
        steps=2000,
        num_particles=8,
        optimizer=adam,
        progress=False,
    )
    posterior = fitted.infer(data, num_samples=4000, coords=coords, seed=0)
    posteriors[guide.__name__] = posterior

# %%
# Means and standard deviations, side by side
# -------------------------------------------
#
# Means agree closely. Look at the spreads of ``tau``, whose posterior is skewed with a long tail:
# a normal distribution, even on the logarithm, cuts it short.

columns = {}
for name, posterior in posteriors.items():
    table = diagnostics.summary(posterior)
    columns[name, "mean"], columns[name, "sd"] = table["mean"], table["sd"]
pd.DataFrame(columns).drop(index=[f"eta[{name}]" for name in names]).round(2)

# %%
# Can the guides be trusted?
# --------------------------
#
# k-hat is one number here, because the weights are those of all rows together. It is shown whatever
# it is: a value above 0.7 says that the weights cannot mend the guide.

for name, posterior in posteriors.items():
    if "k_hat" in posterior.sample_stats:
        print(f"{name}: {diagnostics.describe_khat(posterior)}")

# %%
# The sampler's own checks
# ------------------------
#
# R-hat near 1 says that the chains agree. Diverged transitions, if there are more than a few, say
# that a part of the posterior was not reached.

print(diagnostics.describe_globals(posteriors["NUTS"]))
print(f"divergences: {int(posteriors['NUTS'].sample_stats['diverging'].sum())}")

# %%
# Where the schools lie: by NUTS, then by the independent guide.

diagnostics.plot_forest(posteriors["NUTS"]).set(title="NUTS", xlim=(-9, 18))

# %%

diagnostics.plot_forest(posteriors["AutoNormal"]).set(title="AutoNormal", xlim=(-9, 18))

# %%
# What ``mu`` and ``tau`` trade.

diagnostics.plot_pair(posteriors["NUTS"])
