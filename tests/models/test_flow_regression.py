"""Flow regression: the true conditional density where it is known, draws as predictions, and real data."""

import math

import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold
from torch.optim.lr_scheduler import CosineAnnealingLR

from ppl_genmodels import fit
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference import LearningRate
from ppl_genmodels.models import FlowRegression

STEPS = 600


def truth(x):
    """Two branches, the wider the farther from zero."""
    width = 0.2 + 0.3 * x.abs()
    loc = torch.stack([2 * (3 * x).sin(), -2 * (3 * x).sin() - 1], -1)
    branch = dist.Categorical(torch.tensor([0.7, 0.3]).expand(*x.shape, 2))
    return dist.MixtureSameFamily(branch, dist.Normal(loc, width.unsqueeze(-1)))


@pytest.fixture(scope="module")
def toy():
    torch.manual_seed(0)
    x = 2 * torch.rand(4000) - 1
    data = {"x": x.unsqueeze(-1), "y": truth(x).sample()}
    torch.manual_seed(0)
    return fit(
        FlowRegression(1, hidden=(32, 32)),
        data,
        steps=STEPS,
        batch_size=200,
        optimizer=lambda p: torch.optim.Adam(p, 5e-3, fused=True),
        callbacks=[LearningRate(lambda o: CosineAnnealingLR(o, STEPS))],
        compile="trace",
        progress=False,
    )


def test_the_density_comes_near_the_true_one(toy):
    """The divergence from the truth, where the best Gaussian for each covariate is farther by more than half a nat."""
    torch.manual_seed(1)
    x = 2 * torch.rand(4000) - 1
    y = truth(x).sample()
    with torch.no_grad():
        flow = toy.program.density(x.unsqueeze(-1)).log_prob(y)
    gaussian = dist.Normal(truth(x).mean, truth(x).variance.sqrt()).log_prob(y)
    divergence = (truth(x).log_prob(y) - flow).mean()
    assert divergence < 0.05
    assert (flow - gaussian).mean() > 0.5


def test_densities_of_a_response_integrate_to_one(toy):
    grid = torch.linspace(-12, 12, 20_001)
    with torch.no_grad():
        for x in (-0.7, 0.0, 0.6):
            density = toy.program.density(torch.full((1,), x)).log_prob(grid).exp()
            assert torch.trapezoid(density, grid).item() == pytest.approx(1.0, abs=1e-3)


def test_draws_without_responses_are_predictions_whose_intervals_cover(toy):
    torch.manual_seed(2)
    x = 2 * torch.rand(400) - 1
    y = truth(x).sample()
    drawn = toy.infer({"x": x.unsqueeze(-1)}, num_samples=400, predictive=True).posterior_predictive["y"]
    drawn = torch.tensor(drawn.values).squeeze(0)
    assert drawn.shape == (400, 400)
    low, high = drawn.quantile(0.05, 0), drawn.quantile(0.95, 0)
    covered = ((y > low) & (y < high)).float().mean().item()
    assert covered == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / 400))


def test_responses_of_two_numbers_follow_their_covariance():
    """A linear Gaussian of two responses that hang together, whose density a flow can have."""
    torch.manual_seed(0)
    x = torch.randn(3000, 1)
    noise = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    y = 2 * x + noise.sample((3000,))
    torch.manual_seed(0)
    fitted = fit(
        FlowRegression(1, num_targets=2, layers=1, hidden=(16,)),
        {"x": x, "y": y},
        steps=STEPS,
        batch_size=200,
        optimizer=lambda p: torch.optim.Adam(p, 5e-3, fused=True),
        compile="trace",
        progress=False,
    )
    torch.manual_seed(1)
    x = torch.randn(4000, 1)
    drawn = noise.sample((4000,))
    with torch.no_grad():
        differences = noise.log_prob(drawn) - fitted.program.density(x).log_prob(2 * x + drawn)
    assert -0.01 < differences.mean() < 0.05


def test_on_diabetes_it_comes_up_to_a_linear_gaussian():
    """Every patient held out once, in four parts: no worse than by twice the standard error."""
    x, y = (torch.tensor(each, dtype=torch.float32) for each in load_diabetes(return_X_y=True))
    gains = []
    for train, test in KFold(4, shuffle=True, random_state=0).split(x):
        line = LinearRegression().fit(x[train], y[train])
        left = y[train] - torch.tensor(line.predict(x[train]))
        scale = (left.square().sum() / (len(train) - 11)).sqrt()
        gaussian = dist.Normal(torch.tensor(line.predict(x[test])), scale).log_prob(y[test])
        torch.manual_seed(0)
        fitted = fit(
            FlowRegression(10, layers=1, hidden=(16,), bins=4),
            {"x": x[train], "y": y[train]},
            epochs=150,
            batch_size=32,
            validation=0.15,
            early_stopping=20,
            optimizer=lambda p: torch.optim.Adam(p, 2e-3, weight_decay=1e-3, fused=True),
            compile="trace",
            progress=False,
        )
        with torch.no_grad():
            gains.append(fitted.program.density(x[test]).log_prob(y[test]) - gaussian)
    gain = torch.cat(gains)
    assert gain.mean() > -2 * gain.std() / len(gain) ** 0.5


def test_what_does_not_fit_is_refused():
    program = FlowRegression(3)
    with pytest.raises(DataError, match=r"'x' has shape \(5, 2\), expected"):
        program.model(torch.zeros(5, 2))
    with pytest.raises(DataError, match=r"'y' has shape \(5, 1\), expected"):
        program.model(torch.zeros(5, 3), torch.zeros(5, 1))


def test_options_tell_numbers_from_vectors():
    x, y = torch.zeros(5, 3).numpy(), torch.zeros(5, 2).numpy()
    assert FlowRegression.options_for({"x": x, "y": y}) == {"num_features": 3, "num_targets": 2}
    assert FlowRegression.options_for({"x": x, "y": y[:, 0]}) == {"num_features": 3}
