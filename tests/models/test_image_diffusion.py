"""Diffusion of images with levels: what it says is of the levels."""

import math

import pyro
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import models
from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.objectives import denoising
from ppl_genmodels.transforms import ProbabilityFlow

LEVELS = 4


def program(**options):
    torch.manual_seed(0)
    return models.ImageDiffusion((1, 4, 4), levels=LEVELS, width=8, scales=1, **options)


def images(rows=50):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, LEVELS, (rows, 1, 4, 4), generator=generator).float() / (LEVELS - 1)


def test_the_bound_is_that_of_centred_pixels_and_their_stretching():
    made, x = program(), images()
    plain = models.Diffusion((1, 4, 4), width=8, scales=1)
    plain.flow = ProbabilityFlow(made.flow.denoiser, (1, 4, 4))
    torch.manual_seed(1)
    values = made.within_cells(x).sample()
    centred = 2 / LEVELS * values - 1

    class Continuous(nn.Module):
        def model(self, v):
            with pyro.plate("data", len(v)):
                pyro.sample("v", made.density(), obs=v)

    torch.manual_seed(2)
    found = denoising().evaluate(Continuous(), values)["denoising"]
    torch.manual_seed(2)
    expected = denoising().evaluate(plain, centred)["denoising"] - 16 * math.log(LEVELS / 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_a_network_that_knows_nothing_pays_more_than_uniform_levels_and_learns_to_pay_less():
    made, x = program(), images(400)[:, :, :1].expand(-1, 1, 4, 4)
    uniform = 16 * math.log(LEVELS)
    before = -denoising("v").evaluate(made, x)["denoising[v]"].mean()
    fitted = ppl.fit(
        made, x, steps=300, batch_size=100, optimizer=lambda p: torch.optim.Adam(p, lr=5e-3), progress=False
    )
    torch.manual_seed(0)
    after = -denoising("v").evaluate(fitted.program, x)["denoising[v]"].mean()
    # Rows are copies of the first, so that a quarter of the nats would do.
    assert before > uniform > after > uniform / 4


def test_draws_are_grey_levels():
    drawn = program().generate(20, steps=3)
    torch.testing.assert_close(drawn * (LEVELS - 1), (drawn * (LEVELS - 1)).round())
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    torch.testing.assert_close(program().model().shape, torch.Size([1, 1, 4, 4]))


def test_centred_pixels_lie_in_the_cells_of_their_levels():
    made, x = program(), images()
    level = (LEVELS / 2 * (made.centred(x) + 1)).floor() / (LEVELS - 1)
    torch.testing.assert_close(level, x)


def test_phases_tell_the_place_in_a_cell():
    made = program()
    seen = []

    class Sees(nn.Module):
        def forward(self, x, time):
            seen.append(x)
            return x[..., :1, :, :]

    made.flow.denoiser.network.network = Sees()
    x = images(3)
    centred = made.centred(x)
    made.flow.denoiser(centred, torch.zeros(3))
    _, sine, cosine = seen[0].chunk(3, -3)
    place = LEVELS / 2 * (centred + 1)
    # The input is over the scale of data and least noise together, not of the data alone.
    denoiser = made.flow.denoiser
    alpha, sigma = denoiser.scales(torch.zeros(()))
    spread = (alpha**2 * denoiser.data_scale**2 + sigma**2).sqrt().item()
    bound = math.pi * LEVELS * abs(1 - denoiser.data_scale / spread)
    assert bound < 0.1
    torch.testing.assert_close(sine, (2 * math.pi * place).sin(), atol=bound, rtol=0)
    torch.testing.assert_close(cosine, (2 * math.pi * place).cos(), atol=bound, rtol=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="are none of the 4 grey levels"):
        program().model(torch.full((2, 1, 4, 4), 0.5))
    with pytest.raises(OptionError, match="ImageDiffusion: noising='none', expected one of 'cosine'"):
        program(noising="none")
