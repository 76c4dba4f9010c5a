"""Inference learned by the game: on data whose posterior is known, and on images."""

from functools import partial

import numpy as np
import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import inference
from ppl_genmodels.errors import OptionError
from ppl_genmodels.models import BiGAN

NOISE = 0.3
DIRECTION = torch.tensor([0.8, -0.6])
ADAM = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.9), fused=True)


def rows(count=2048, seed=0):
    """One factor and even noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, generator=generator) * DIRECTION + NOISE * torch.randn(count, 2, generator=generator)


def lost(found, x):
    """The share of the variance that does not come back."""
    return ((found.reconstruct(x)["x"] - x).square().sum() / (x - x.mean(0)).square().sum()).item()


def test_linear_gaussian_data_are_inferred_and_come_back():
    torch.manual_seed(0)
    program = BiGAN(event_shape=(2,), latent_dim=1, hidden=(32,), critic_rate=4e-3, gradient_penalty=0.5)
    untrained = ppl.fit(program, rows(), steps=1, compile="off", progress=False)
    assert lost(untrained, rows(500, 1)) > 0.5
    found = ppl.fit(
        program,
        rows(),
        steps=1000,
        optimizer=ADAM,
        compile="trace",
        progress=False,
        callbacks=[inference.EMA(0.99)],
    )
    x = rows(500, 1)
    best = NOISE**2 / (1 + 2 * NOISE**2)
    assert lost(found, x) < best + 0.1
    inferred = found.infer(x, 20, seed=0).posterior["z"].values[0, ..., 0]
    exact = (x @ DIRECTION / (1 + NOISE**2)).numpy()
    correlation = np.corrcoef(inferred.mean(0), exact)[0, 1]
    assert abs(correlation) > 0.9
    assert 0.7 < inferred.std() < 1.3


def test_images_pass_through_convolutions():
    torch.manual_seed(0)
    program = BiGAN(event_shape=(1, 6, 5), latent_dim=2, hidden=(8,), channels=(3, 4))
    x = torch.rand(20, 1, 6, 5)
    found = ppl.fit(program, x, steps=2, compile="trace", progress=False)
    assert found.reconstruct(x)["x"].shape == x.shape == program.generate(20).shape


def test_grey_levels_have_means_between_0_and_1_and_noise_starts_as_asked():
    grey = torch.rand(20, 1, 6, 5)
    assert BiGAN.options_for({"x": grey.numpy()}) == {"event_shape": (1, 6, 5), "bounded": True}
    torch.manual_seed(0)
    program = BiGAN(event_shape=(1, 6, 5), latent_dim=2, hidden=(8,), channels=(3, 4), bounded=True, scale=0.02)
    with torch.no_grad():
        program.decoder[0].layers[-1].bias.fill_(20.0)
    means = program.generate(100)
    assert means.min() > 0.99
    assert means.max() <= 1
    assert program.likelihood.scale.item() == pytest.approx(0.02)
    with pytest.raises(OptionError, match="scale=0, expected a positive number"):
        BiGAN(event_shape=(2,), latent_dim=1, scale=0)
