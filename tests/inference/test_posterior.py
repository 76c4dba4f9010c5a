"""The posterior of new data: the same whatever the chunks, and right where the truth is known."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import as_program
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError
from ppl_genmodels.guides import Amortized, AutoNormal
from ppl_genmodels.handlers import mask_missing
from ppl_genmodels.inference import posterior
from ppl_genmodels.inference.evidence import log_evidence
from ppl_genmodels.inference.posterior import sample_posterior
from ppl_genmodels.objectives import Run

NAMES = ["linear_gaussian", "shared_slope", "mixture", "nested", "crossed"]
GROUPS = ("posterior", "log_likelihood", "sample_stats", "posterior_predictive", "observed_data")


def infer(program, data, num_samples=11, **settings):
    settings = {"seed": 0} | settings
    return sample_posterior(as_program(program), Rows.of(data), num_samples, **settings)


def data_of(program):
    return program.data if hasattr(program, "data") else program.x


def assert_same(one, other, exact=True):
    for group in GROUPS:
        mine, theirs = getattr(one, group), getattr(other, group)
        assert mine.keys() == theirs.keys()
        for name, array in mine.items():
            compare = np.testing.assert_array_equal if exact else np.testing.assert_allclose
            compare(array, theirs[name], err_msg=f"{group} {name}", **({} if exact else {"rtol": 2e-5, "atol": 2e-5}))


@pytest.fixture(params=NAMES)
def program(request):
    return request.getfixturevalue(request.param)()


@pytest.mark.parametrize("chunk_size", [1, 7, 32, 50])
@pytest.mark.parametrize("predictive", [False, True])
def test_the_size_of_the_chunks_changes_nothing(program, chunk_size, predictive):
    """Draws are equal bit for bit; densities up to the rounding of products of another size."""
    whole = infer(program, data_of(program), predictive=predictive, chunk_size=1000)
    parts = infer(program, data_of(program), predictive=predictive, chunk_size=chunk_size)
    assert_same(parts, whole, exact=False)
    for name in whole.posterior.keys() - {"mean"}:
        np.testing.assert_array_equal(parts.posterior[name], whole.posterior[name])
    for name, array in whole.posterior_predictive.items():
        np.testing.assert_array_equal(parts.posterior_predictive[name], array)


def test_one_seed_one_answer_and_the_random_state_is_left(program):
    before = torch.get_rng_state()
    once, again = (infer(program, data_of(program), predictive=True) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(once, again)
    other = infer(program, data_of(program), predictive=True, seed=1)
    for name in once.posterior_predictive:
        assert not np.array_equal(other.posterior_predictive[name], once.posterior_predictive[name])


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 75])
def test_any_number_of_rows_and_one_draw(program, rows):
    data = data_of(program)
    some = {name: value[:rows] for name, value in data.items()} if isinstance(data, dict) else data[:rows]
    draws = infer(program, some, num_samples=1, predictive=True)
    for group in ("posterior", "log_likelihood", "posterior_predictive"):
        for name, array in getattr(draws, group).items():
            dims = draws.dims[name]
            assert array.shape[:2] == (1, 1)
            assert array.ndim == 2 + len(dims) - (group == "log_likelihood") * len([d for d in dims if "_dim_" in d])
            assert "data" not in dims or array.shape[2 + dims.index("data")] == rows


def test_dims_are_named_after_the_plates(nested, crossed, linear_gaussian):
    dims = infer(nested(), nested().data).dims
    assert dims == {
        "mean": (),
        "twice": (),
        "z": ("data",),
        "y": ("data", "y_dim_0"),
        "u": ("inner", "data"),
        "sum": ("inner", "data"),
        "x": ("inner", "data"),
    }
    assert infer(crossed(), crossed().data).dims == {"z": ("data",), "y": ("data",), "x": ("data", "inner")}
    program = linear_gaussian()
    assert infer(program, program.x).dims["mean"] == ("data", "mean_dim_0")


def test_draws_have_the_moments_of_the_posterior(linear_gaussian):
    program, draws = linear_gaussian(), 4000
    z = torch.from_numpy(infer(program, program.x, num_samples=draws).posterior["z"][0])
    mean, covariance = program.posterior(program.x)
    error = (covariance.diagonal() / draws).sqrt()
    assert ((z.mean(0) - mean).abs() / error).max() < 5
    centred = (z - mean).flatten(0, 1)
    spread = covariance.diagonal().outer(covariance.diagonal()).sqrt() * (2 / len(centred)) ** 0.5
    assert ((centred.T @ centred / len(centred) - covariance).abs() / spread).max() < 5


def test_an_exact_guide_has_one_weight_which_is_the_evidence(linear_gaussian, mixture):
    program = linear_gaussian()
    stats = infer(program, program.x).sample_stats
    expected = program.marginal().log_prob(program.x).detach().numpy()
    assert stats["log_weight"].shape == (1, 11, 75)
    np.testing.assert_allclose(stats["log_weight"][0], np.tile(expected, (11, 1)), atol=1e-4)
    program = mixture()
    stats = infer(program, program.x).sample_stats
    expected = (program.components(program.x).logsumexp(-1) - np.log(3)).detach().numpy()
    np.testing.assert_allclose(stats["log_weight"][0], np.tile(expected, (11, 1)), atol=1e-4)


def test_shared_latents_have_one_weight_for_all_rows(shared_slope):
    program = shared_slope()
    stats = infer(program, program.data, chunk_size=7).sample_stats
    assert stats["log_weight"].shape == (1, 11)
    np.testing.assert_allclose(stats["log_weight"], np.full((1, 11), program.evidence()), rtol=1e-4)


def test_a_guide_that_reads_a_shared_site_off_the_data_is_given_all_of_them(shared_slope):
    program, draws = shared_slope(), 4000
    w = torch.from_numpy(infer(program, program.data, num_samples=draws, chunk_size=5).posterior["w"][0])
    mean, covariance = program.posterior(**program.data)
    assert ((w.mean(0) - mean).abs() / (covariance.diagonal() / draws).sqrt()).max() < 5


def test_log_p_and_log_q_are_the_densities_at_the_draws(nested):
    program = nested()
    draws = infer(program, program.data, chunk_size=10)
    mean, z, u = (torch.from_numpy(draws.posterior[name][0]) for name in ("mean", "z", "u"))
    x, y = program.data["x"], program.data["y"]
    log_q = dist.Normal(program.loc, 0.2).log_prob(mean)
    log_q = log_q + dist.Normal(x.mean(1) + 0.1 * mean[:, None], 0.3).log_prob(z).sum(1)
    log_q = log_q + dist.Normal(x.T + 0.1 * z[:, None], 0.4).log_prob(u).sum((1, 2))
    likelihood = {
        "y": dist.Normal(z.unsqueeze(-1), 1.0).log_prob(y).sum(-1),
        "x": dist.Normal(u, 0.5).log_prob(x.T),
    }
    log_p = dist.Normal(0.0, 1.0).log_prob(mean) + dist.Normal(mean[:, None], 1.0).log_prob(z).sum(1)
    log_p = log_p + dist.Normal(z[:, None], 0.5).log_prob(u).sum((1, 2))
    log_p = log_p + likelihood["y"].sum(1) + likelihood["x"].sum((1, 2))
    for name, expected in (("log_q", log_q), ("log_p", log_p), ("log_weight", log_p - log_q)):
        np.testing.assert_allclose(draws.sample_stats[name][0], expected.detach(), rtol=1e-4)
    for name, expected in likelihood.items():
        np.testing.assert_allclose(draws.log_likelihood[name][0], expected, rtol=1e-4, atol=1e-5)


def test_sites_that_follow_from_others_are_in_the_posterior(nested, linear_gaussian):
    draws = infer(nested(), nested().data).posterior
    np.testing.assert_allclose(draws["twice"], 2 * draws["mean"])
    np.testing.assert_allclose(draws["sum"], draws["u"] + draws["z"][:, :, None], rtol=1e-5, atol=1e-6)
    program = linear_gaussian()
    draws = infer(program, program.x).posterior
    expected = torch.from_numpy(draws["z"]) @ program.loading.T + program.offset
    np.testing.assert_allclose(draws["mean"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_observed_data_are_the_data(nested):
    observed = infer(nested(), nested().data, chunk_size=9).observed_data
    np.testing.assert_array_equal(observed["x"], nested().data["x"].T)
    np.testing.assert_array_equal(observed["y"], nested().data["y"])


def test_replicated_data_have_the_moments_of_the_predictive(linear_gaussian):
    program, draws = linear_gaussian(), 3000
    replicated = infer(program, program.x, num_samples=draws, predictive=True).posterior_predictive["x"][0]
    mean, covariance = program.posterior(program.x)
    expected = mean @ program.loading.T + program.offset
    variance = (program.loading @ covariance @ program.loading.T).diagonal() + 0.6**2
    error = (torch.from_numpy(replicated).mean(0) - expected).abs() / (variance / draws).sqrt()
    assert error.max() < 5
    ratio = torch.from_numpy(replicated).var(0) / variance
    assert (ratio.mean(0) - 1).abs().max() < 5 * (2 / draws / 75) ** 0.5


@pytest.mark.parametrize("chunk_size", [10, 50, None])
def test_replicated_data_belong_to_their_draws(nested, chunk_size):
    """The distance of a replicate from the latent value beside it is that of the likelihood, 0.5."""
    draws = infer(nested(), nested().data, num_samples=200, predictive=True, chunk_size=chunk_size)
    distance = draws.posterior_predictive["x"] - draws.posterior["u"]
    assert abs((distance**2).mean() / 0.25 - 1) < 5 * (2 / distance.size) ** 0.5


def test_replicated_data_of_different_blocks_are_not_alike(linear_gaussian):
    program = linear_gaussian()
    same = program.x[:1].repeat(64, 1)
    draws = infer(program, same, predictive=True)
    for array in (draws.posterior["z"], draws.posterior_predictive["x"]):
        assert len(np.unique(array[0, :, :, 0])) == array[0, :, :, 0].size


@pytest.mark.parametrize("chunk_size", [None, 10])
def test_a_missing_value_changes_its_own_row_alone(linear_gaussian, chunk_size):
    program = linear_gaussian()
    holed = program.x.clone()
    holed[40, 1] = float("nan")
    full = infer(program, program.x, predictive=True)
    some = infer(mask_missing(program), holed, predictive=True, chunk_size=chunk_size)
    others = [row for row in range(75) if row != 40]
    for group in ("posterior", "log_likelihood", "sample_stats", "posterior_predictive"):
        for name, array in getattr(some, group).items():
            assert np.isfinite(array).all()
            expected = getattr(full, group)[name]
            np.testing.assert_allclose(array[:, :, others], expected[:, :, others], rtol=1e-5, atol=1e-5)
            # The covariance, and with it the density of a draw, does not depend on the data.
            assert np.allclose(array[:, :, 40], expected[:, :, 40]) == (name == "log_q")
    z = torch.from_numpy(some.posterior["z"][0, :, 40])
    entries = dist.Normal(z @ program.loading.T + program.offset, 0.6).log_prob(program.x[40])
    expected = entries[:, [0, 2, 3]].sum(-1).detach()
    np.testing.assert_allclose(some.log_likelihood["x"][0, :, 40], expected, rtol=1e-4)
    np.testing.assert_array_equal(some.observed_data["x"], holed)


class Hierarchy(nn.Module):
    """A global scale and a latent of each row, served by an amortized guide."""

    def model(self, x=None):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), scale.unsqueeze(-1)).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def test_an_amortized_guide_of_global_and_local_latents():
    model = Hierarchy().model
    program = as_program((model, Amortized(model, nn.Linear(2, 4))))
    x = torch.randn(75, 2, generator=torch.Generator().manual_seed(0))
    whole = infer(program, x, chunk_size=1000)
    assert whole.posterior["scale"].shape == (1, 11)
    assert whole.posterior["z"].shape == (1, 11, 75, 2)
    assert whole.sample_stats["log_weight"].shape == (1, 11)
    for chunk_size in (1, 7):
        assert_same(infer(program, x, chunk_size=chunk_size), whole, exact=False)


def test_an_autoguide_of_local_latents_serves_its_rows_whatever_the_chunk():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    program = as_program((model, AutoNormal(model)))
    x = torch.randn(40)
    whole = infer(program, x)
    assert whole.sample_stats["log_weight"].shape == (1, 11, 40)
    assert_same(infer(program, x, chunk_size=7), whole)


def test_a_program_without_latents_has_its_likelihood_in_every_draw():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(1.0)), 1.0), obs=x)

    x = torch.randn(40)
    draws = infer(model, x, chunk_size=7)
    assert draws.posterior == {}
    expected = dist.Normal(1.0, 1.0).log_prob(x).expand(11, 40)
    np.testing.assert_allclose(draws.log_likelihood["x"][0], expected, rtol=1e-6)
    np.testing.assert_allclose(draws.sample_stats["log_weight"][0], expected, rtol=1e-6)


def test_a_program_without_plates_has_one_weight():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).expand([*z.shape, 5]).to_event(1), obs=x)

    draws = infer((model, AutoNormal(model)), torch.randn(5))
    assert draws.posterior["z"].shape == draws.sample_stats["log_weight"].shape == (1, 11)
    assert draws.log_likelihood["x"].shape == (1, 11)


def rows_of_runs(monkeypatch):
    """How many rows each run of a guide or a model is given from now on."""
    seen, traced = [], Run.trace_particles

    def watched(self, fn):
        seen.append(len(self.args[0]))
        return traced(self, fn)

    monkeypatch.setattr(Run, "trace_particles", watched)
    return seen


@pytest.mark.own_compile
def test_no_more_rows_are_computed_together_than_fit(linear_gaussian, monkeypatch):
    """Densities are computed for as many rows as memory affords, latents for a block at most."""
    program, seen = linear_gaussian(), rows_of_runs(monkeypatch)
    as_program(program).probe(program.x)
    monkeypatch.setattr(posterior, "MEMORY", 11 * 4 * 5)
    infer(program, program.x)
    assert sorted(seen) == [4] * 2 + [5] * 15 + [11] + [32] * 2  # the first two see whether draws can be made together


@pytest.mark.own_compile
def test_chunks_are_whole_blocks_where_these_fit(linear_gaussian, monkeypatch):
    program, seen = linear_gaussian(), rows_of_runs(monkeypatch)
    as_program(program).probe(program.x)
    monkeypatch.setattr(posterior, "CACHE", 11 * 4 * 70)
    infer(program, program.x)
    assert sorted(seen) == [4] * 2 + [11] * 2 + [32] * 2 + [64]


@pytest.mark.own_compile
def test_the_guide_runs_once_for_each_block(linear_gaussian, monkeypatch):
    program, calls = linear_gaussian(), []
    guide = program.guide
    program.guide = lambda x: calls.append(len(x)) or guide(x)
    as_program(program).probe(program.x)
    calls.clear()
    infer(program, program.x, chunk_size=10)
    assert calls == [4, 32, 32, 11]  # the first to see whether many draws can be made in one run


def linear_layer(x, y=None):
    """Weights of a plain linear layer, which broadcasts over rows and not over draws."""
    weight = pyro.sample("weight", dist.Normal(torch.zeros(1, 3), 1.0).to_event(2))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(torch.nn.functional.linear(x, weight)[:, 0], 0.5), obs=y)


def test_a_program_that_does_not_broadcast_over_draws_is_run_once_for_each():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    data, program = {"x": x, "y": x.sum(1)}, as_program((linear_layer, AutoNormal(linear_layer)))
    draws = sample_posterior(program, Rows.of(data), 5, predictive=True, seed=1)
    weight = torch.from_numpy(draws.posterior["weight"][0, :, 0])
    assert weight.unique().numel() == weight.numel() == 15
    expected = dist.Normal(weight @ x.T, 0.5).log_prob(data["y"])
    np.testing.assert_allclose(draws.log_likelihood["y"][0], expected, rtol=1e-4, atol=1e-4)
    total = expected.sum(1) + dist.Normal(0.0, 1.0).log_prob(weight).sum(1)
    np.testing.assert_allclose(draws.sample_stats["log_p"][0], total, rtol=1e-4)
    assert draws.posterior_predictive["y"].shape == (1, 5, 40)
    again = sample_posterior(program, Rows.of(data), 5, seed=1)
    np.testing.assert_array_equal(draws.posterior["weight"], again.posterior["weight"])


def test_the_evidence_of_such_a_program_is_that_of_its_weights():
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    data, rows = {"x": x, "y": x.sum(1)}, Rows.of({"x": x, "y": x.sum(1)})
    program = as_program((linear_layer, AutoNormal(linear_layer, init_scale=0.5)))
    exact = dist.MultivariateNormal(torch.zeros(12), x @ x.T + 0.25 * torch.eye(12)).log_prob(data["y"])
    assert -30 < log_evidence(program, rows, 300) < exact + 1.0


@pytest.mark.parametrize("settings", [{"num_samples": 0}, {"num_samples": 3, "chunk_size": 0}])
def test_numbers_below_one_are_refused(linear_gaussian, settings):
    program = linear_gaussian()
    with pytest.raises(OptionError, match="num_samples and chunk_size must be at least 1"):
        infer(program, program.x, **settings)
