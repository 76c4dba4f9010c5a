"""A denoiser says the same whatever its network's output stands for."""

import pytest
import torch
from torch import nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import CosineNoising, Denoiser, EDMNoising, LinearNoising, TimeMLP

X, NOISE = (torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
TIME = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
SCALE = 0.5


class Knows(nn.Module):
    """A network that gives the right output."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, time):
        assert time.shape == x.shape[:-1]
        return self.output


def right_output(predicts, alpha, sigma):
    if predicts == "preconditioned":
        spread = (alpha**2 * SCALE**2 + sigma**2).sqrt()
        linear = alpha * SCALE**2 / spread**2 * (alpha * X + sigma * NOISE)
        return (X - linear) * spread / (sigma * SCALE)
    return {"noise": NOISE, "data": X, "velocity": alpha * NOISE - sigma * X, "score": -NOISE / sigma}[predicts]


@pytest.mark.parametrize("noising", [LinearNoising(), CosineNoising(), EDMNoising()])
@pytest.mark.parametrize("predicts", ["noise", "data", "velocity", "score", "preconditioned"])
def test_all_predictions_are_one(noising, predicts):
    denoiser = Denoiser(nn.Identity(), noising, predicts, data_scale=SCALE)
    alpha, sigma = denoiser.scales(TIME)
    denoiser.network = Knows(right_output(predicts, alpha, sigma))
    found = denoiser(denoiser.noisy(X, NOISE, TIME), TIME)
    torch.testing.assert_close(found.data, X, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.noise, NOISE, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.score, -NOISE / sigma, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.velocity, alpha * NOISE - sigma * X, rtol=1e-6, atol=1e-7)


def test_the_network_sees_values_of_unit_variance():
    seen = []

    class Sees(nn.Module):
        def forward(self, x, time):
            seen.append(x)
            return x

    denoiser = Denoiser(Sees(), EDMNoising(), data_scale=SCALE)
    data, noise = SCALE * torch.randn(20000, 1), torch.randn(20000, 1)
    for time in (0.0, 0.5, 1.0):
        denoiser(denoiser.noisy(data, noise, torch.tensor(time)), torch.tensor(time))
    assert all(x.var().item() == pytest.approx(1, abs=4 * (2 / 20000) ** 0.5) for x in seen)


def test_images_and_contexts_are_served():
    class Both(nn.Module):
        def forward(self, x, time, context):
            return x * context[..., None, None] + time[..., None, None, None]

    denoiser = Denoiser(Both(), LinearNoising(), event_dim=3)
    found = denoiser(torch.randn(4, 2, 5, 5), torch.rand(4), torch.ones(4, 2))
    assert found.data.shape == (4, 2, 5, 5)
    assert found.alpha.shape == (4, 1, 1, 1)


def test_a_network_takes_any_batch_and_every_block_learns():
    network = TimeMLP(3, width=8, blocks=2, context_features=2)
    nn.init.normal_(network.leave.weight)
    output = network(torch.randn(4, 5, 3), torch.rand(4, 5), torch.randn(5, 2))
    output.square().sum().backward()
    assert output.shape == (4, 5, 3)
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="predicts='error', expected one of 'noise', 'data'"):
        Denoiser(TimeMLP(2), CosineNoising(), predicts="error")
    with pytest.raises(OptionError, match="expected a context of 2 features, got none"):
        TimeMLP(3, context_features=2)(torch.zeros(5, 3), torch.zeros(5))
    with pytest.raises(OptionError, match="expected an even number"):
        TimeMLP(3).time[0].__class__(7)
