"""
A variational autoencoder on digits
===================================

The whole job on real data: fit a program, measure how well it explains digits that it has not
seen, infer on them, and look. The data are the 1797 grey 8×8 digits of scikit-learn, pixels divided
by 16, of which 360 are held out.
"""

import torch
from sklearn.decomposition import PCA

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels.inference import EMA

train, test = ppl.data.load("digits", "train"), ppl.data.load("digits", "test")
print(train.data.shape, test.data.shape)

# %%
# Fit
# ---
#
# Eight latent numbers for each digit, a Gaussian likelihood with one learned scale for all pixels,
# networks with one hidden layer. Small batches matter with so few rows. ``EMA`` keeps a moving
# average of the weights, which here is worth more than a schedule of the learning rate.

torch.manual_seed(0)
program = ppl.models.VAE(data_dim=64, latent_dim=8, hidden=(500,), likelihood="gaussian")
fitted = ppl.fit(
    program,
    train.data,
    epochs=100,
    batch_size=32,
    validation=0.1,
    callbacks=[EMA(0.999)],
    progress=False,
)
print(fitted)

# %%
# The objective should reach a plateau. The distance between it and the validation is what the
# program has learned by heart.

diagnostics.plot_history(fitted)

# %%
# How well does it explain unseen digits?
# ---------------------------------------
#
# The evidence log p(x) of each held-out digit, bounded from below by importance weighting with 1000
# particles. To compare with: probabilistic PCA, whose log-likelihood is exact, with *twice* as many
# components. It was fitted to all 1437 digits, the program to the 1293 of them that were not kept
# for validation; both are measured on the same 360.

evidence = fitted.log_evidence(test.data, num_particles=1000, seed=0)
exact = PCA(16).fit(train.data).score_samples(test.data)
difference = evidence.numpy() - exact
error = difference.std() / len(difference) ** 0.5

print(f"VAE, 8 latents, importance-weighted bound {evidence.mean():6.2f} nats per digit")
print(f"PCA, 16 components, exact                 {exact.mean():6.2f} nats per digit")
print(f"difference                                {difference.mean():6.2f} ± {error:.2f}")

# %%
# Samples and reconstructions
# ---------------------------
#
# Digits that the program makes from its prior: look for variety, and for shapes that are no digit.

# sphinx_gallery_thumbnail_number = 2
diagnostics.plot_samples(fitted, 60, data=test.data)

# %%
# Held-out digits, and below each what eight numbers keep of it.

diagnostics.plot_reconstructions(fitted, test.data, 24)

# %%
# Infer on new digits
# -------------------
#
# The posterior is an ``arviz.InferenceData``; its dims are named after the plates of the program.

posterior = fitted.infer(test.data, num_samples=500, seed=0)
print(posterior.posterior["z"].sizes)

# %%
# Labels were not used in the fit. That they fall into groups is what was found.

diagnostics.plot_latent_map(posterior, test.labels)
print(diagnostics.describe_latent_map(posterior, test.labels))

# %%
# Every dim should carry information; one near zero would be idle.

diagnostics.plot_information(posterior)

# %%
# Can the guide be trusted? k-hat is the tail of the importance weights, one for each digit: below
# 0.7 its draws can be corrected by their weights. For most digits it is above: the guide takes the
# eight numbers as independent given the digit, and the posterior of so sharp a decoder does not.
# So means are useful and spreads are too small, and the evidence above is a cautious bound.

diagnostics.plot_khat(posterior)
print(diagnostics.describe_khat(posterior))

# %%
# Missing pixels
# --------------
#
# NaN means missing. The lower half of some digits is taken away, inferred from the upper half, and
# drawn again: upper row what was given, lower row what the program makes of it.

halves = test.data[:12].copy()
halves[:, 32:] = float("nan")
diagnostics.plot_reconstructions(fitted, halves, 12)
