"""The automatic flow guide: exact where the posterior is a Gaussian, saved and reported as other automatic guides."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import fit, load
from ppl_genmodels.guides import AutoFlow, inverse_autoregressive
from ppl_genmodels.transforms import InvertibleLinear

NOISE = 0.5
FEATURES = torch.tensor([[1.0, 0.9], [0.5, 0.6], [-1.0, -0.7], [0.2, 0.1], [-0.4, -0.6]])
DATA = {"x": FEATURES, "y": torch.tensor([1.0, 0.3, -0.8, 0.4, -0.5])}


class Line(nn.Module):
    """Two slopes that the data couple, of which one is kept by its logarithm, and a Gaussian posterior of all."""

    def __init__(self):
        super().__init__()
        self.register_buffer("zero", torch.zeros(()))

    def model(self, x, y):
        first = pyro.sample("first", dist.Normal(self.zero, 1.0))
        second = pyro.sample("second", dist.LogNormal(self.zero, 1.0)).log()
        with pyro.plate("data", len(x)):
            mean = first.unsqueeze(-1) * x[:, 0] + second.unsqueeze(-1) * x[:, 1]
            pyro.sample("y", dist.Normal(mean.squeeze(-2) if mean.dim() > 2 else mean, NOISE), obs=y)


def exact():
    """Mean and covariance of the slopes, and the log-evidence."""
    precision = torch.eye(2) + FEATURES.mT @ FEATURES / NOISE**2
    covariance = torch.linalg.inv(precision)
    mean = covariance @ FEATURES.mT @ DATA["y"] / NOISE**2
    marginal = FEATURES @ FEATURES.mT + NOISE**2 * torch.eye(5)
    return mean, covariance, dist.MultivariateNormal(torch.zeros(5), marginal).log_prob(DATA["y"])


def linear(features, context):
    """Of all Gaussians, the exact posterior among them."""
    return [InvertibleLinear(features)]


@pytest.fixture(scope="module", params=[linear, inverse_autoregressive(2, (16,))], ids=["linear", "autoregressive"])
def fitted(request):
    torch.manual_seed(0)
    line = Line()
    return fit(
        (line.model, AutoFlow(line.model, request.param)),
        DATA,
        steps=800,
        batch_size=5,
        num_particles=32,
        optimizer=lambda p: torch.optim.Adam(p, 1e-2, fused=True),
        progress=False,
    ), request.param


def test_moments_and_evidence_of_a_gaussian_posterior_are_the_exact_ones(fitted):
    posterior = fitted[0].infer(DATA, num_samples=4000, seed=0)
    slopes = np.stack(
        [posterior.posterior["first"].values.ravel(), np.log(posterior.posterior["second"].values.ravel())]
    )
    mean, covariance, evidence = (value.numpy() for value in exact())
    weights = np.exp(posterior.sample_stats["log_weight"].values.ravel())
    weights /= weights.sum()
    centred = slopes - mean[:, None]
    for values, expected in (
        (slopes, mean),
        (centred**2, covariance.diagonal()),
        (centred[:1] * centred[1:], covariance[:1, 1]),
    ):
        found = values @ weights
        error = np.sqrt(((values - found[:, None]) ** 2) @ weights**2)
        assert (np.abs(found - expected) < 4 * error).all()
    assert float(posterior.sample_stats["k_hat"]) < 0.7
    assert fitted[0].log_evidence(DATA, 2000).item() == pytest.approx(float(evidence), abs=0.02)


def test_it_comes_back_from_disk(fitted, tmp_path):
    one, layers = fitted
    one.save(tmp_path)
    line = Line()
    loaded = load(tmp_path, program=(line.model, AutoFlow(line.model, layers)))
    mine, theirs = (run.infer(DATA, num_samples=5, seed=3) for run in (loaded, one))
    assert mine["posterior"].equals(theirs["posterior"])


def test_it_has_a_report(fitted, tmp_path):
    fitted[0].report(tmp_path, DATA)
    assert "first" in (tmp_path / "index.html").read_text(encoding="utf-8")
