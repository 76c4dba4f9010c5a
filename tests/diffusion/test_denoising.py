"""The denoising objective is the bound of the chain, and tends to the evidence."""

import pyro
import pytest
import torch
from torch import nn

from ppl_genmodels.distributions.diffusion import Diffusion
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.models import SplineFlow
from ppl_genmodels.models.diffusion_chain import DiffusionChain
from ppl_genmodels.networks import CosineNoising, EDMNoising, LinearNoising
from ppl_genmodels.objectives import elbo
from ppl_genmodels.objectives.denoising import denoising
from ppl_genmodels.transforms import ProbabilityFlow

ROWS = 1000
NOISINGS = [LinearNoising, CosineNoising, EDMNoising]


class Data(nn.Module):
    """Data from a diffusion."""

    def __init__(self, denoiser):
        super().__init__()
        self.flow = ProbabilityFlow(denoiser, (len(denoiser.values),)).double()

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", Diffusion(self.flow), obs=x)


@pytest.mark.parametrize("noising", NOISINGS)
def test_one_step_of_the_chain_stands_for_all(gaussian, noising):
    torch.manual_seed(0)
    denoiser = gaussian(2, noising())
    program, x = Data(denoiser), denoiser.target.sample((ROWS,))
    chain = DiffusionChain(program.flow, steps=8)
    terms = elbo().evaluate(chain, x, num_particles=4)
    whole = (terms["log_lik"] - terms["kl"]).mean().item()
    one = torch.stack([denoising(steps=8).evaluate(program, x)["denoising"] for _ in range(20)])
    error = (one.mean(1).std() / 20**0.5).item()
    assert one.mean().item() == pytest.approx(whole, abs=4 * error + 0.01 * abs(whole))


@pytest.mark.parametrize("noising", NOISINGS)
def test_the_bound_in_continuous_time_is_the_evidence(gaussian, noising):
    torch.manual_seed(0)
    denoiser = gaussian(2, noising())
    program, x = Data(denoiser), denoiser.target.sample((ROWS,))
    exact = denoiser.target.log_prob(x)
    found = torch.stack([denoising(times="log_snr").evaluate(program, x)["denoising"] for _ in range(20)])
    gaps = (found - exact).mean(1)
    error = (gaps.std() / 20**0.5).item()
    # The mean gap over data is the divergence of the data from the model: that of the prior at the noisiest end.
    assert gaps.mean().item() == pytest.approx(0, abs=4 * error + 0.05)


def test_more_steps_make_the_chain_tighter(gaussian):
    denoiser = gaussian(2, CosineNoising())
    x = denoiser.target.sample((200,))
    program = Data(denoiser)
    bounds = []
    for steps in (4, 16, 64):
        terms = elbo().evaluate(DiffusionChain(program.flow, steps), x)
        bounds.append((terms["log_lik"] - terms["kl"]).mean().item())
    assert bounds[0] < bounds[1] < bounds[2] < denoiser.target.log_prob(x).mean().item()


@pytest.mark.parametrize("weight", ["simple", "snr", "min_snr", "edm"])
def test_the_exact_denoiser_is_the_best_under_every_weight(gaussian, weight):
    torch.manual_seed(0)
    denoiser = gaussian(2, CosineNoising())
    program, x = Data(denoiser), denoiser.target.sample((ROWS,))

    def value():
        torch.manual_seed(1)
        return denoising(weight=weight).evaluate(program, x)["denoising"].mean().item()

    best = value()
    denoiser.values = denoiser.values * 1.3
    assert value() < best < 0


def test_what_cannot_be_is_refused(gaussian):
    with pytest.raises(OptionError, match="weight='loss', expected one of 'elbo', 'simple'"):
        denoising(weight="loss")
    with pytest.raises(OptionError, match="steps are those of the chain"):
        denoising(weight="simple", steps=10)
    with pytest.raises(OptionError, match="times='even'"):
        denoising(times="even")
    with pytest.raises(ProgramError, match="no site's distribution is a flow with a continuous layer"):
        denoising().loss(SplineFlow(2), torch.zeros(3, 2))
