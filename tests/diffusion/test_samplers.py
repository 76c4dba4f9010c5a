"""Samplers with the exact denoiser of normal data: they draw the data, along the paths that are known."""

import pytest
import torch

from ppl_genmodels.distributions.samplers import generate, time_grid
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import CosineNoising, EDMNoising, LearnedNoising, LinearNoising, VarianceExploding

NOISINGS = [LinearNoising, CosineNoising, EDMNoising]
DRAWS = 4000


def exact_paths(denoiser, noise):
    """The probability flow of normal data moves each principal axis by its own factor."""
    noisiest = denoiser.marginal(torch.ones((), dtype=noise.dtype))
    _, sigma = denoiser.scales(torch.ones((), dtype=noise.dtype))
    along = (sigma * noise - noisiest.mean) @ denoiser.vectors
    spread = torch.linalg.eigvalsh(noisiest.covariance_matrix)
    return denoiser.target.mean + (along * (denoiser.values / spread).sqrt()) @ denoiser.vectors.mT


@pytest.mark.parametrize("noising", NOISINGS)
def test_the_ancestral_sampler_draws_the_data(gaussian, noising):
    torch.manual_seed(0)
    denoiser = gaussian(3, noising())
    drawn = generate(denoiser, torch.randn(DRAWS, 3, dtype=torch.float64), "ancestral", steps=400)
    target = denoiser.target
    errors = target.variance.sqrt() / DRAWS**0.5
    assert ((drawn.mean(0) - target.mean).abs() < 4 * errors + 0.01).all()
    covariance = target.covariance_matrix
    spread = ((covariance**2 + target.variance.outer(target.variance)) / DRAWS).sqrt()
    assert ((drawn.T.cov() - covariance).abs() < 4 * spread + 0.01).all()


@pytest.mark.parametrize("noising", [*NOISINGS, VarianceExploding, LearnedNoising])
@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2), ("dpm_solver", 2)])
def test_the_others_follow_the_exact_paths_and_come_nearer_with_more_steps(gaussian, noising, sampler, order):
    torch.manual_seed(0)
    denoiser = gaussian(2, noising())
    noise = torch.randn(50, 2, dtype=torch.float64)
    exact = exact_paths(denoiser, noise)
    coarse, fine = (
        (generate(denoiser, noise, sampler, steps=steps) - exact).abs().max().item() for steps in (200, 800)
    )
    least = (denoiser.scales(torch.zeros(()))[1] ** 2).item()  # what the least noise leaves out
    assert fine < 0.05
    assert fine < coarse / 4 ** (0.8 * order) + 5 * least


@pytest.mark.parametrize("noising", NOISINGS)
def test_a_sampler_of_second_order_is_nearer_than_one_of_first_with_as_many_evaluations(gaussian, noising):
    torch.manual_seed(0)
    denoiser = gaussian(2, noising())
    noise = torch.randn(200, 2, dtype=torch.float64)
    exact = exact_paths(denoiser, noise)
    first = (generate(denoiser, noise, "ddim", steps=20) - exact).norm(dim=-1).mean()
    for sampler, steps in (("heun", 10), ("dpm_solver", 20)):
        assert (generate(denoiser, noise, sampler, steps) - exact).norm(dim=-1).mean() < first


def test_times_fall_from_one_to_zero_and_unknown_samplers_are_refused(gaussian):
    assert time_grid(4, torch.zeros(1)).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    denoiser = gaussian(2, LinearNoising())
    with pytest.raises(OptionError, match="sampler='euler', expected one of 'ancestral'"):
        generate(denoiser, torch.zeros(1, 2), "euler")
    with pytest.raises(OptionError, match="steps=0"):
        generate(denoiser, torch.zeros(1, 2), steps=0)
