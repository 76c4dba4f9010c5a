"""Noise-contrastive estimation finds the density with its normalizer."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference import LearningRate
from ppl_genmodels.models import EnergyModel
from ppl_genmodels.objectives import noise_contrastive

ROWS = 20_000


@pytest.fixture
def noise():
    return dist.MultivariateNormal(torch.zeros(2).double(), 3 * torch.eye(2).double())


def test_noise_of_the_model_itself_cannot_be_told_apart(program, target):
    program.log_normalizer.data.copy_(program.network.log_normalizer)
    for ratio in (1, 3):
        found = noise_contrastive(noise=target, ratio=ratio).evaluate(program, target.sample((4,)))
        expected = -math.log(1 + ratio) - ratio * math.log(1 + 1 / ratio)
        torch.testing.assert_close(found["noise_contrastive"], torch.full((4,), expected).double())


@pytest.mark.parametrize("ratio", [1, 4])
@pytest.mark.parametrize("name", ["network.loc", "network.precision", "log_normalizer"])
def test_the_gradient_vanishes_at_the_density_with_its_normalizer(program, target, noise, at_zero, ratio, name):
    torch.manual_seed(0)
    program.log_normalizer.data.copy_(program.network.log_normalizer)
    at_zero(noise_contrastive("x", noise=noise, ratio=ratio), program, target.sample((ROWS,)), name)


def test_the_log_normalizer_is_learned(program, target, noise):
    torch.manual_seed(0)
    program.network.requires_grad_(False)
    x, exact = target.sample((ROWS,)), program.network.log_normalizer
    ppl.fit(
        program,
        x,
        objective=noise_contrastive(noise=noise, ratio=4),
        steps=60,
        batch_size=ROWS,
        precision="64-true",
        optimizer=lambda p: torch.optim.Adam(p, 0.1),
        progress=False,
    )
    # The variance of the log-odds' regression, some units over the rows, gives errors below 0.02.
    assert program.log_normalizer.item() == pytest.approx(exact.item(), abs=0.06)


def test_a_fitted_energy_is_a_density():
    """By the program's own objective: it integrates to one, and its divergence from the truth is small."""
    torch.manual_seed(0)
    truth = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)),
        dist.Normal(torch.tensor([[-2.0], [2.0]]), torch.tensor([[0.5], [1.0]])).to_event(1),
    )
    x = truth.sample((4000,))
    program = EnergyModel(data_dim=1, hidden=(32, 32))
    ppl.fit(
        program,
        x,
        steps=300,
        batch_size=1000,
        optimizer=lambda p: torch.optim.Adam(p, 5e-3),
        callbacks=[LearningRate(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 300))],
        compile="trace",
        progress=False,
    )
    grid = torch.linspace(-12, 12, 4001).unsqueeze(-1)
    with torch.no_grad():
        found, exact = program.density().log_prob(grid), truth.log_prob(grid)
    width = 24 / 4000
    assert (found.exp().sum() * width).item() == pytest.approx(1.0, abs=0.05)
    assert ((exact - found) * exact.exp()).sum().item() * width < 0.05


def plain(x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1), obs=x)


def test_a_site_that_is_no_energy_is_served_when_noise_is_given(target):
    x = target.sample((5,))
    normal = dist.Normal(torch.zeros(2).double(), 1.0).to_event(1)
    found = noise_contrastive("x", noise=normal).evaluate(plain, x)["noise_contrastive[x]"]
    torch.testing.assert_close(found, torch.full((5,), -2 * math.log(2)).double())


def test_the_start_of_an_energy_is_its_noise_by_default(program, target):
    x = target.sample((5,))
    values = []
    for objective in (noise_contrastive("x"), noise_contrastive("x", noise=program.start)):
        torch.manual_seed(0)
        values.append(objective.evaluate(program, x)["noise_contrastive[x]"])
    assert torch.equal(*values)


def test_what_cannot_be_is_refused(program, target):
    with pytest.raises(OptionError, match=r"batch shape \(2,\), expected none"):
        noise_contrastive(noise=dist.Normal(torch.zeros(2), 1.0))
    with pytest.raises(OptionError, match="ratio=0"):
        noise_contrastive(noise=target, ratio=0)
    with pytest.raises(ProgramError, match="the distribution of site 'x' is not an energy"):
        noise_contrastive("x").loss(plain, target.sample((2,)))
    other = dist.Normal(torch.zeros(3).double(), 1.0).to_event(1)
    with pytest.raises(ProgramError, match=r"event shape \(3,\), that of site 'x' is \(2,\)"):
        noise_contrastive(noise=other).loss(program, target.sample((2,)))
