"""A traced step of each objective is the eager one, to the bit."""

import pyro.distributions as dist
import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels.models import EnergyModel
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


@pytest.mark.own_compile
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_a_traced_step_is_the_eager_one(objective):
    x = torch.randn(48, 2, generator=torch.Generator().manual_seed(0)) + 1

    def fitted(compile):
        torch.manual_seed(1)
        program = EnergyModel(data_dim=2, hidden=(8,), chains=40)
        ppl.fit(program, x, objective=objective, epochs=2, batch_size=16, compile=compile, progress=False)
        return program.state_dict()

    eager, traced = fitted("off"), fitted("trace")
    assert all(torch.equal(eager[name], traced[name]) for name in eager)
    assert eager["network.tilt.layers.2.weight"].abs().sum() > 0
