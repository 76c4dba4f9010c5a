"""The adversarial autoencoder: its codes fill the prior, and its rows come back."""

from functools import partial

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import inference
from ppl_genmodels.diagnostics import mmd_test
from ppl_genmodels.errors import OptionError
from ppl_genmodels.models import AdversarialAutoencoder

LEVEL = 0.01
ADAM = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.9), fused=True)


def corners(rows=2048):
    """Four clouds on a saddle."""
    generator = torch.Generator().manual_seed(0)
    flat = (
        torch.randint(0, 2, (rows, 2), generator=generator) * 4.0 - 2 + 0.7 * torch.randn(rows, 2, generator=generator)
    )
    return torch.cat([flat, flat.prod(1, keepdim=True) / 2], 1)


def autoencoder(**options):
    torch.manual_seed(0)
    settings = {"hidden": (32,), "likelihood": "gaussian", "weight": 10.0, "critic_rate": 4e-3, "critic_steps": 2}
    return AdversarialAutoencoder(event_shape=(3,), latent_dim=2, gradient_penalty=0.1, **(settings | options))


def against_prior(program):
    """The test of the codes of 200 rows against as many draws of the prior."""
    torch.manual_seed(1)
    with torch.no_grad():
        return mmd_test(program.guide(corners()[:200]), torch.randn(200, 2)).p_value


def test_codes_of_all_data_fill_the_prior_as_those_of_an_untrained_one_do_not():
    program = autoencoder()
    assert against_prior(program) < LEVEL
    found = ppl.fit(
        program,
        corners(),
        steps=1000,
        optimizer=ADAM,
        compile="trace",
        progress=False,
        callbacks=[inference.EMA(0.99)],
    )
    assert against_prior(program) > LEVEL
    x = corners()
    lost = (found.reconstruct(x)["x"] - x).square().sum() / (x - x.mean(0)).square().sum()
    assert lost < 0.1
    assert found.infer(x[:5], 10, seed=0).posterior["z"].shape == (1, 10, 5, 2)
    assert program.generate(7).shape == (7, 3)


def test_images_pass_through_convolutions():
    torch.manual_seed(0)
    program = AdversarialAutoencoder(event_shape=(1, 6, 5), latent_dim=2, hidden=(8,), channels=(3, 4))
    x = torch.rand(20, 1, 6, 5).round()
    found = ppl.fit(program, x, steps=2, compile="trace", progress=False)
    assert found.reconstruct(x)["x"].shape == x.shape == found.sample(20)["x"].shape


def test_a_negative_weight_is_refused():
    with pytest.raises(OptionError, match="weight=-1, expected 0 or more"):
        autoencoder(weight=-1)
