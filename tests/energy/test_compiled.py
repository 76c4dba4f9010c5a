"""A traced step of each objective is the eager one, to the bit."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels.distributions import Energy, NoisyEnergy
from ppl_genmodels.models import EnergyModel
from ppl_genmodels.networks import Denoiser, EnergyGradient, TimeMLP, VarianceExploding
from ppl_genmodels.objectives import contrastive_divergence, noise_contrastive, score_matching

NOISE = dist.Normal(torch.zeros(2), 2.0).to_event(1)
OBJECTIVES = {
    "contrastive divergence": contrastive_divergence(steps=3),
    "unadjusted": contrastive_divergence(steps=3, adjusted=False),
    "persistent chains": contrastive_divergence(steps=3, persistent=True),
    "noise": noise_contrastive(noise=NOISE, ratio=2),
    "denoising": score_matching(noise=0.1),
    "denoising over a range": score_matching(noise=(0.1, 1.0)),
    "sliced": score_matching(kind="sliced"),
    "implicit": score_matching(kind="implicit"),
}


class NoisyPoints(nn.Module):
    """Points whose energy is known at all levels of noise."""

    def __init__(self):
        super().__init__()
        denoiser = Denoiser(EnergyGradient(TimeMLP(2, width=8, blocks=1)), VarianceExploding(0.1, 5.0))
        self.energy = NoisyEnergy(denoiser)

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", Energy(self.energy, (2,)), obs=x)


@pytest.mark.own_compile
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_a_traced_step_is_the_eager_one(objective):
    eager, traced = (fitted(lambda: EnergyModel(2, (8,), chains=40), objective, mode) for mode in ("off", "trace"))
    assert all(torch.equal(eager[name], traced[name]) for name in eager)
    assert eager["network.tilt.layers.2.weight"].abs().sum() > 0


@pytest.mark.own_compile
def test_so_is_that_at_all_levels_of_noise():
    eager, traced = (fitted(NoisyPoints, score_matching("x"), mode) for mode in ("off", "trace"))
    assert all(torch.equal(eager[name], traced[name]) for name in eager)
    assert any(name.endswith("leave.weight") and value.abs().sum() > 0 for name, value in eager.items())


def fitted(make, objective, compile):
    x = torch.randn(48, 2, generator=torch.Generator().manual_seed(0)) + 1
    torch.manual_seed(1)
    program = make()
    ppl.fit(program, x, objective=objective, epochs=2, batch_size=16, compile=compile, progress=False)
    return program.state_dict()
