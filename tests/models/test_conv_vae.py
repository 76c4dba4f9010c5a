"""The convolutional variational autoencoder."""

import numpy as np
import pyro
import pytest
import torch

from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.models import ConvVAE


@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 7, 5)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_draws_are_images_under_particles(image_shape, likelihood):
    program = ConvVAE(image_shape, 4, channels=(3, 4), likelihood=likelihood, levels=5)
    with pyro.plate("_particles", 7, dim=-2):
        assert program.model().shape == (7, 1, *image_shape)
    x = program.model()
    with pyro.plate("_particles", 7, dim=-2):
        assert program.guide(x).shape == (7, 1, 4)


def test_it_learns_where_a_square_stands():
    """Squares at four corners: a mean image costs far more than a decoder that reads z."""
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 8, 8)
    for i in range(64):
        top, left = 4 * (i % 2), 4 * (i // 2 % 2)
        x[i, 0, top : top + 4, left : left + 4] = 1.0
    program = ConvVAE((1, 8, 8), 2, channels=(8, 8))
    optimizer = torch.optim.Adam(program.parameters(), 5e-3)
    elbo = pyro.infer.Trace_ELBO()
    for _ in range(150):
        optimizer.zero_grad()
        elbo.differentiable_loss(program.model, program.guide, x).div(64).backward()
        optimizer.step()
    mean_image_cost = 64 * (-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    assert elbo.loss(program.model, program.guide, x) / 64 < 0.5 * mean_image_cost


def test_images_of_another_shape_are_refused():
    program = ConvVAE((1, 8, 8), 4)
    with pytest.raises(DataError, match=r"ConvVAE: 'x' has shape \(5, 64\).*reshape\(-1, 1, 8, 8\)"):
        program.guide(torch.zeros(5, 64))
    with pytest.raises(DataError, match=r"ConvVAE: 'x' has shape \(5, 3, 8, 8\).*build ConvVAE"):
        program.model(torch.zeros(5, 3, 8, 8))


def test_bad_options_are_refused():
    with pytest.raises(OptionError, match=r"image_shape=.8, 8. has 2 entries, expected 3"):
        ConvVAE((8, 8), 4)
    with pytest.raises(OptionError, match="ConvVAE: latent_dim=0"):
        ConvVAE((1, 8, 8), 0)


def test_options_are_read_off_images():
    options = ConvVAE.options_for({"x": np.ones((5, 1, 8, 8))})
    assert options == {"image_shape": (1, 8, 8), "likelihood": "bernoulli"}
    with pytest.raises(DataError, match=r"shape \(5, 8, 8\).*Remedy: x\[:, None\]"):
        ConvVAE.options_for({"x": np.ones((5, 8, 8))})
