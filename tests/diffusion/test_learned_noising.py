"""The rates of a diffusion are learned by its bound: both ends and the way between."""

import math

import pyro
import pytest
import torch
from torch import nn

from ppl_genmodels.distributions import Diffusion
from ppl_genmodels.models import Diffusion as DiffusionProgram
from ppl_genmodels.models import DiffusionChain
from ppl_genmodels.networks import LearnedNoising
from ppl_genmodels.objectives import denoising, elbo
from ppl_genmodels.transforms import ProbabilityFlow

STEPS = 6


class Data(nn.Module):
    """Data from a diffusion with the exact denoiser of normal data, whatever the noising."""

    def __init__(self, denoiser):
        super().__init__()
        self.flow = ProbabilityFlow(denoiser, (len(denoiser.values),)).double()

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", Diffusion(self.flow), obs=x)


def exact_bound(denoiser):
    """The bound of the chain averaged over normal data about 0, in closed form."""
    ratios = denoiser.noising.log_snr(torch.linspace(0, 1, STEPS + 1, dtype=torch.float64))
    unexplained = (denoiser.values * ratios[1:, None].exp() / (1 + denoiser.values * ratios[1:, None].exp())).sum(-1)
    lost = (0.5 * torch.expm1(ratios[:-1] - ratios[1:]) * unexplained).sum()
    decoded = -0.5 * len(denoiser.values) * (math.log(2 * math.pi) + 1 - ratios[0])
    return decoded - 0.5 * ratios[-1].exp() * denoiser.values.sum() - lost


@pytest.fixture
def denoiser(gaussian):
    torch.manual_seed(0)
    found = gaussian(2, LearnedNoising(start=6.0, end=-3.0))
    found.target.loc.zero_()
    return found


def test_gradients_of_every_parameter_are_those_of_the_exact_bound(denoiser):
    torch.manual_seed(0)
    program, draws = Data(denoiser), 60
    parameters = list(denoiser.noising.parameters())
    exact = torch.autograd.grad(-exact_bound(denoiser), parameters)
    assert all(gradient.abs().max() > 0 for gradient in exact)
    found = []
    for _ in range(draws):
        loss = denoising(steps=STEPS).loss(program, denoiser.target.sample((500,)))
        found.append(torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters)]))
    found, exact = torch.stack(found), torch.cat([each.flatten() for each in exact])
    assert ((found.mean(0) - exact).abs() < 5 * found.std(0) / draws**0.5 + 1e-9).all()


def test_learned_rates_bring_a_short_chain_nearer_to_the_evidence(denoiser):
    torch.manual_seed(0)
    program, target = Data(denoiser), denoiser.target
    before, evidence = exact_bound(denoiser).item(), -target.entropy().item()
    optimizer = torch.optim.Adam(denoiser.noising.parameters(), 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        denoising(steps=STEPS).loss(program, target.sample((256,))).backward()
        optimizer.step()
    after = exact_bound(denoiser).item()
    assert before < after < evidence
    assert evidence - after < 0.5 * (evidence - before)
    x = target.sample((4000,))
    terms = elbo().evaluate(DiffusionChain(program.flow, STEPS), x)
    bounds = terms["log_lik"] - terms["kl"]
    assert bounds.mean().item() == pytest.approx(after, abs=4 * (bounds.std() / len(x) ** 0.5).item())


def test_the_program_of_the_catalogue_learns_them():
    program = DiffusionProgram((2,), width=8, blocks=1, noising="learned", learned_variance=True)
    denoising(steps=40).loss(program, torch.randn(64, 2)).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in program.denoiser.noising.parameters())
