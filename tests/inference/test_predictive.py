"""Samples from the prior and reconstructions, against moments that are known."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_genmodels import as_program
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference.predictive import reconstruct, sample_prior
from ppl_genmodels.models import EightSchools

DRAWS = 20_000


def sample(program, n=DRAWS, seed=0):
    return sample_prior(as_program(program), n, seed)


def test_samples_have_the_moments_of_the_marginal(linear_gaussian):
    program = linear_gaussian()
    drawn = sample(program)
    marginal = program.marginal()
    for value, mean, covariance in (
        (drawn["x"], marginal.mean, marginal.covariance_matrix),
        (drawn["z"], torch.zeros(2), torch.eye(2)),
    ):
        variance = covariance.diagonal()
        assert ((value.mean(0) - mean).abs() / (variance / DRAWS).sqrt()).max() < 5
        centred = value - mean
        error = ((variance.outer(variance) + covariance**2) / DRAWS).sqrt()
        assert ((centred.T @ centred / DRAWS - covariance).abs() / error).max() < 5


def test_a_sample_is_one_joint_draw(linear_gaussian):
    """Latent values and data of one draw go together, and a site that follows from others follows in each."""
    program = linear_gaussian()
    drawn = sample(program, 1000)
    mean = drawn["z"] @ program.loading.T + program.offset
    torch.testing.assert_close(drawn["mean"], mean)
    assert abs((drawn["x"] - mean).var() / 0.6**2 - 1) < 5 * (2 / mean.numel()) ** 0.5


def test_shared_latents_are_drawn_anew_for_each_sample(nested):
    drawn = sample(nested(), 500)
    assert {name: tuple(value.shape) for name, value in drawn.items()} == {
        "mean": (500,),
        "twice": (500,),
        "z": (500,),
        "y": (500, 2),
        "u": (500, 3),
        "sum": (500, 3),
        "x": (500, 3),
    }
    torch.testing.assert_close(drawn["twice"], 2 * drawn["mean"])
    torch.testing.assert_close(drawn["sum"], drawn["u"] + drawn["z"].unsqueeze(-1))
    assert drawn["mean"].unique().numel() == 500
    total = drawn["x"].var(0).mean() / (1 + 1 + 0.25 + 0.25)
    assert abs(total - 1) < 0.2


def test_a_plate_of_more_than_one_datum_stays():
    drawn = sample(EightSchools(), 5)
    assert drawn["y"].shape == drawn["theta"].shape == (5, 8)
    assert drawn["mu"].shape == (5,)


def test_seeds_decide_and_the_random_state_is_left(mixture):
    before = torch.get_rng_state()
    once = sample(mixture(), 10)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = sample(mixture(), 10), sample(mixture(), 10, seed=1)
    assert torch.equal(once["x"], again["x"])
    assert not torch.equal(once["x"], other["x"])


def test_one_sample(linear_gaussian):
    assert sample(linear_gaussian(), 1)["x"].shape == (1, 4)


def test_a_model_that_needs_data_is_told_so(shared_slope):
    with pytest.raises(
        ProgramError, match=r"cannot run without data.*Remedy: give its data arguments the default None"
    ):
        sample(shared_slope())


def test_at_least_one_sample_is_needed(mixture):
    with pytest.raises(OptionError, match="the number of samples must be at least 1, got 0"):
        sample(mixture(), 0)


def test_a_reconstruction_is_the_posterior_mean_of_the_mean(linear_gaussian):
    """E[W z + m | x], within the standard error of the draws that are averaged."""
    program, draws = linear_gaussian(), 500
    received = reconstruct(as_program(program), Rows.of(program.x), draws)["x"]
    mean, covariance = program.posterior(program.x)
    expected = mean @ program.loading.T + program.offset
    error = ((program.loading @ covariance @ program.loading.T).diagonal() / draws).sqrt()
    assert received.shape == program.x.shape
    assert ((received - expected).abs() / error).max() < 5


@pytest.mark.parametrize("rows", [1, 33])
def test_reconstructions_have_the_shape_of_the_data(nested, crossed, rows):
    some = {name: value[:rows] for name, value in nested().data.items()}
    received = reconstruct(as_program(nested()), Rows.of(some))
    assert (received["x"].shape, received["y"].shape) == ((3, rows), (rows, 2))
    some = {name: value[:rows] for name, value in crossed().data.items()}
    received = reconstruct(as_program(crossed()), Rows.of(some), 2000)
    assert (received["x"].shape, received["y"].shape) == ((rows, 3), (rows,))
    latent = some["x"].mean(1)
    torch.testing.assert_close(received["y"], 2 * latent, atol=5 * 0.6 / 2000**0.5, rtol=0)
    torch.testing.assert_close(received["x"], latent.unsqueeze(1).expand(rows, 3), atol=5 * 0.3 / 2000**0.5, rtol=0)


def test_a_shared_latent_is_averaged_over_its_posterior(shared_slope):
    program = shared_slope()
    received = reconstruct(as_program(program), Rows.of(program.data), 2000)["y"]
    mean, covariance = program.posterior(**program.data)
    x = program.data["x"]
    error = ((x @ covariance * x).sum(-1) / 2000).sqrt()
    assert ((received - x @ mean).abs() / error).max() < 5


def test_a_distribution_without_a_mean_is_named():
    class Strange(dist.Normal):
        @property
        def mean(self):
            raise NotImplementedError

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", Strange(pyro.param("loc", torch.tensor(0.0)), 1.0), obs=x)

    with pytest.raises(ProgramError, match=r"site 'x': Strange has no mean.*Remedy: infer\(data, predictive=True\)"):
        reconstruct(as_program(model), Rows.of(torch.zeros(3)))
