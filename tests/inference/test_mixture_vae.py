"""A VAE with a Gaussian mixture as its prior: its label is used, by digits of which no label is shown."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn.functional import softplus

import ppl_genmodels as ppl
from ppl_genmodels import handlers
from ppl_genmodels.networks import MLP

CLUSTERS, LATENT, PIXELS = 10, 8, 64


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(CLUSTERS, LATENT))
        self.raw_scales = nn.Parameter(torch.full((CLUSTERS, LATENT), 0.5))
        self.raw_noise = nn.Parameter(torch.tensor(-1.0))
        self.decoder = MLP(LATENT, PIXELS, (200,))
        self.label, self.position = MLP(PIXELS, CLUSTERS, (200,)), MLP(PIXELS, 2 * LATENT, (200,))
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


def fitted(seed, density):
    torch.manual_seed(seed)
    program = Mixture()
    ppl.fit(
        handlers.gumbel_softmax(program, sites="y", temperature=0.5, density=density),
        ppl.data.load("digits", "train").data,
        epochs=60,
        batch_size=64,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3, fused=True),
        seed=seed,
        progress=False,
    )
    return program


def judged(program):
    """The exponentials of the entropy of the mean responsibilities and of the mutual information of digit and label,
    and the accuracy of the best matching of clusters to digits.
    """
    test = ppl.data.load("digits", "test")
    with torch.no_grad():
        responsibilities = program.label(torch.from_numpy(test.data)).softmax(-1)
    used = torch.distributions.Categorical(responsibilities.mean(0)).entropy()
    within = torch.distributions.Categorical(responsibilities).entropy().mean()
    counts = np.zeros((CLUSTERS, 10))
    np.add.at(counts, (responsibilities.argmax(-1).numpy(), test.labels), 1)
    accuracy = counts[linear_sum_assignment(-counts)].sum() / len(test.labels)
    return used.exp().item(), (used - within).exp().item(), accuracy


@pytest.mark.parametrize("seed", range(3))
def test_a_label_priced_as_a_label_is_used(seed):
    used, apart, accuracy = judged(fitted(seed, "categorical"))
    assert used > 6
    assert apart > 3
    assert accuracy > 0.4  # by chance 0.1; half of the clusters, each with all of one digit, would give 0.5


def test_a_label_priced_by_its_relaxation_says_nothing_and_the_measures_tell():
    used, apart, _ = judged(fitted(0, "relaxed"))
    assert used > 9  # which by itself is no proof of use
    assert apart < 1.1
