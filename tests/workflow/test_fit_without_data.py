"""A program that takes no data: the guide is fitted to a density that is known up to its normalizer."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels.distributions import Flow
from ppl_genmodels.transforms import Coupling, Spline

RADIUS, WIDTH = 2.0, 0.3


class Ring(nn.Module):
    """A density around a circle, and a flow to be fitted to it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(2))
        self.layers = nn.ModuleList([Coupling(2, (32,), Spline(), swap=swap) for swap in (False, True) * 2])

    def model(self):
        base = dist.Normal(self.zeros, 3.0).to_event(1)
        z = pyro.sample("z", base)
        pyro.factor("ring", -0.5 * ((z.norm(dim=-1) - RADIUS) / WIDTH) ** 2 - base.log_prob(z))

    def guide(self):
        pyro.sample("z", Flow(dist.Normal(self.zeros, 1.0).to_event(1), self.layers))


def log_normalizer():
    """In polar coordinates, where the density is that of the radius times the radius."""
    radius = torch.linspace(0, 6, 60001, dtype=torch.float64)
    density = radius * torch.exp(-0.5 * ((radius - RADIUS) / WIDTH) ** 2)
    return math.log(2 * math.pi * torch.trapezoid(density, radius).item())


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    return ppl.fit(Ring(), None, steps=300, num_particles=128, progress=False)


def test_the_normalizer_is_found(fitted):
    log_weight = fitted.infer(None, num_samples=4000, seed=0).sample_stats["log_weight"].values
    weight = torch.tensor(log_weight, dtype=torch.float64).flatten().exp()
    error = (weight.std() / weight.mean() / len(weight) ** 0.5).item()
    again = fitted.log_evidence(None, num_particles=4000, seed=1).item()
    assert weight.mean().log().item() == pytest.approx(log_normalizer(), abs=4 * error)
    assert again == pytest.approx(log_normalizer(), abs=4 * error)


def test_the_flow_may_be_trusted(fitted):
    posterior = fitted.infer(None, num_samples=1000, seed=0)
    assert float(posterior.sample_stats["k_hat"]) < 0.7
    radius = torch.tensor(posterior.posterior["z"].values).norm(dim=-1)
    assert radius.mean().item() == pytest.approx(RADIUS, abs=0.15)


def test_an_epoch_is_one_step():
    history = ppl.fit(Ring(), None, epochs=3, progress=False).history
    assert history["step"].tolist() == [1, 2, 3]


def test_what_was_fitted_is_saved_and_reported(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    again = ppl.load(tmp_path / "run", program=Ring())
    first, second = (one.infer(None, num_samples=5, seed=3).posterior["z"].values for one in (fitted, again))
    assert (first == second).all()
    page = fitted.report(tmp_path / "report").read_text()
    assert "k-hat" in page
