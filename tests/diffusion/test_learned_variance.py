"""A chain whose steps have a learned variance."""

from dataclasses import replace

import pytest
import torch

from ppl_genmodels import inference, models
from ppl_genmodels.distributions.reverse_step import posterior, reverse_step, step_divergence
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.models import DiffusionChain
from ppl_genmodels.networks import CosineNoising
from ppl_genmodels.objectives import denoising, elbo

TIME, EARLIER = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)


def widened(denoiser, by):
    """The denoiser with a given widening."""

    class Widened(type(denoiser)):
        def forward(self, noisy, time, context=None):
            return replace(super().forward(noisy, time, context), widening=torch.full_like(noisy, by))

    denoiser.__class__ = Widened
    return denoiser


def draws(denoiser, rows=4000):
    torch.manual_seed(0)
    data = denoiser.target.sample((rows,))
    return data, torch.randn_like(data)


def test_a_widening_of_zero_changes_nothing(gaussian):
    plain = gaussian(3, CosineNoising())
    data, noise = draws(plain, 50)
    expected = step_divergence(plain, data, noise, TIME, EARLIER)
    found = step_divergence(widened(gaussian(3, CosineNoising()), 0.0), data, noise, TIME, EARLIER)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_between_zero_and_one_the_variance_goes_from_the_posteriors_to_the_forward_steps(gaussian):
    denoiser = gaussian(2, CosineNoising())
    data, noise = draws(denoiser, 5)
    noisy = denoiser.noisy(data, noise, TIME)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.scales(TIME), denoiser.scales(EARLIER)
    forward = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
    for by, expected in ((0.0, posterior(denoiser, noisy, data, TIME, EARLIER)[1]), (1.0, forward)):
        found = widened(gaussian(2, CosineNoising()), by)(noisy, TIME)
        _, variance = reverse_step(denoiser, found, noisy, TIME, EARLIER)
        torch.testing.assert_close(variance, expected.expand_as(variance))


def test_for_standard_normal_data_the_widest_steps_lose_nothing(gaussian):
    """There the reverse step has the forward step's variance, so that the chain is exact but for its last step."""

    def standard(by):
        denoiser = gaussian(2, CosineNoising())
        denoiser.target = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
        denoiser.values, denoiser.vectors = torch.ones(2).double(), torch.eye(2).double()
        return widened(denoiser, by)

    data, noise = draws(standard(0.0), 20000)
    narrow, wide = (step_divergence(standard(by), data, noise, TIME, EARLIER) for by in (0.0, 1.0))
    # E KL(q(s|t,x) || p(s|t)) with p the exact reverse step is the information on x that x_s adds to x_t.
    log_snr = standard(0.0).noising.log_snr
    information = torch.log1p(log_snr(EARLIER).exp()) - torch.log1p(log_snr(TIME).exp())
    assert wide.mean().item() == pytest.approx(information.item(), abs=4 * wide.std().item() / 20000**0.5)
    assert narrow.mean() > wide.mean() + 4 * (narrow - wide).std() / 20000**0.5


def test_the_estimate_at_one_step_and_the_chain_agree():
    torch.manual_seed(0)
    program = models.Diffusion((2,), width=8, learned_variance=True)
    torch.nn.init.normal_(program.denoiser.network.leave.weight, std=0.3)
    x, chain = torch.randn(200, 2), DiffusionChain(program.flow, 6)
    terms = [elbo().evaluate(chain, x) for _ in range(20)]
    whole = torch.stack([(each["log_lik"] - each["kl"]).mean() for each in terms])
    one = torch.stack([denoising(steps=6).evaluate(program, x)["denoising"].mean() for _ in range(100)])
    error = (whole.var() / 20 + one.var() / 100).sqrt().item()
    assert one.mean().item() == pytest.approx(whole.mean().item(), abs=4 * error)


def test_it_is_learned_and_makes_a_short_chain_better():
    bounds = []
    for learned in (False, True):
        torch.manual_seed(0)
        program = models.Diffusion((2,), width=16, blocks=1, learned_variance=learned)
        objective = denoising(steps=4)
        step = inference.compile_step(objective, program, torch.optim.Adam(program.parameters(), 5e-3), mode="trace")
        for _ in range(200):
            step(torch.randn(256, 2))
        x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
        bounds.append(torch.stack([objective.evaluate(program, x)["denoising"].mean() for _ in range(20)]))
    fixed, free = bounds
    error = (fixed.var() / 20 + free.var() / 20).sqrt()
    assert free.mean() > fixed.mean() + 4 * error


def test_continuous_time_has_no_variance_to_learn():
    program = models.Diffusion((2,), width=8, learned_variance=True)
    with pytest.raises(ProgramError, match=r"learns the variance of a chain's steps. Remedy: steps=1000"):
        denoising().loss(program, torch.zeros(3, 2))
