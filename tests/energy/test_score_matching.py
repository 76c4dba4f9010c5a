"""Score matching against what is known in closed form of normal densities."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.objectives import score_matching

ROWS = 20_000


def test_the_implicit_value_is_the_closed_form(program, target):
    x = target.sample((9,)) + 0.3
    precision = torch.linalg.inv(target.covariance_matrix)
    score = (target.mean - x) @ precision
    expected = -0.5 * score.square().sum(-1) + precision.trace()
    found = score_matching("x", kind="implicit").evaluate(program, x)["score_matching[x]"]
    torch.testing.assert_close(found, expected)


def test_the_implicit_optimum_is_the_sample_s_mean_and_covariance(program, target):
    x = target.sample((50,))
    with torch.no_grad():
        program.network.loc.copy_(x.mean(0))
        program.network.precision.copy_(torch.linalg.inv(x.T.cov(correction=0)))
    score_matching(kind="implicit").loss(program, x).backward()
    for parameter in (program.network.loc, program.network.precision):
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), atol=1e-10, rtol=0)


def test_slices_are_unbiased_for_the_implicit_value_and_gradient(program, target):
    torch.manual_seed(0)
    x = target.sample((5,)) + 0.3
    rows = x.repeat(4000, 1)
    found = score_matching(kind="sliced").evaluate(program, rows)["score_matching"].reshape(4000, 5)
    exact = score_matching(kind="implicit").evaluate(program, x)["score_matching"]
    error = found.std(0) / 4000**0.5
    assert error.min() > 0
    assert ((found.mean(0) - exact).abs() < 4.5 * error).all()


def test_directions_of_signs_are_exact_where_the_coordinates_are_independent():
    target = dist.MultivariateNormal(torch.zeros(3), torch.eye(3))

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", target, obs=x)

    x = torch.randn(4, 3)
    sliced, implicit = (
        score_matching("x", kind=kind).evaluate(model, x)["score_matching[x]"] for kind in ("sliced", "implicit")
    )
    torch.testing.assert_close(sliced, implicit)


@pytest.mark.parametrize("noise", [0.4, 1.0])
def test_the_optimum_of_denoising_is_the_density_with_noise(program, target, at_zero, noise):
    torch.manual_seed(0)
    x = target.sample((ROWS,))
    objective = score_matching(noise=noise)
    smoothed = target.covariance_matrix + noise**2 * torch.eye(2)
    with torch.no_grad():
        program.network.precision.copy_(torch.linalg.inv(smoothed))
    at_zero(objective, program, x, "network.loc")
    at_zero(objective, program, x, "network.precision")
    with torch.no_grad():
        program.network.precision.copy_(torch.linalg.inv(target.covariance_matrix))
    with pytest.raises(AssertionError):
        at_zero(objective, program, x, "network.precision")


class Scaled(nn.Module):
    """A site that is no energy: a normal density with a learned precision."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision))

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(3), self.precision**-0.5).to_event(1), obs=x)


def test_over_a_range_of_noise_the_optimum_is_the_weighted_mean(at_zero):
    """Of -lambda x and data of variance v it is E[sigma²] / E[sigma² (v + sigma²)], sigma even in its log."""
    torch.manual_seed(0)
    smallest, largest, variance = 0.2, 1.5, 0.7
    log_range = math.log(largest / smallest)
    square = (largest**2 - smallest**2) / (2 * log_range)
    fourth = (largest**4 - smallest**4) / (4 * log_range)
    program = Scaled(square / (variance * square + fourth))
    at_zero(score_matching("x", noise=(smallest, largest)), program, variance**0.5 * torch.randn(ROWS, 3), "precision")


def test_particles_and_plates_leave_the_value_alone(program, target):
    x = target.sample((6,))
    one, several = (
        score_matching(kind="implicit").evaluate(program, x, num_particles=count)["score_matching"] for count in (1, 4)
    )
    torch.testing.assert_close(one, several)


def test_what_cannot_be_is_refused(target):
    with pytest.raises(OptionError, match="kind='exact', expected one of 'denoising'"):
        score_matching(kind="exact")
    with pytest.raises(OptionError, match="noise=0, expected a positive number"):
        score_matching(noise=0)
    with pytest.raises(ProgramError, match="noise=None, and the distribution of site 'x' does not know the noise"):
        score_matching("x").loss(Scaled(1.0), torch.zeros(2, 3))
    with pytest.raises(OptionError, match=r"noise=\(1.0, 0.1\)"):
        score_matching(noise=(1.0, 0.1))
    with pytest.raises(OptionError, match=r"noise=0.1 is for kind='denoising'"):
        score_matching(kind="sliced", noise=0.1)
    with pytest.raises(ProgramError, match=r"score_matching\(\): no site's distribution is an energy"):
        score_matching(noise=0.1).loss(Scaled(1.0), torch.zeros(2, 3))
