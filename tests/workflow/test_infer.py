"""What a fitted program gives: InferenceData with named dims, for any rows, and nothing touched on the way."""

import random

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.guides import AutoNormal
from ppl_genmodels.models import VAE, EightSchools, LinearRegression

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


def fit(program, data, **settings):
    torch.manual_seed(0)
    settings = {"steps": 3, "batch_size": 50, "progress": False} | settings
    return ppl.fit(program, data, **settings)


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    return fit(VAE(6, 2, hidden=(5,), likelihood="gaussian"), X)


@pytest.fixture(scope="module")
def schools():
    program = EightSchools()
    return fit((program.model, AutoNormal(program.model)), EightSchools.data())


def test_the_groups_and_their_dims(fitted):
    idata = fitted.infer(X[:7], num_samples=5, predictive=True)
    sizes = {group: dict(idata[group].sizes) for group in idata.groups()}
    draws = {"chain": 1, "draw": 5, "data": 7}
    assert sizes == {
        "posterior": {**draws, "z_dim_0": 2},
        "posterior_predictive": {**draws, "x_dim_0": 6},
        "log_likelihood": draws,
        "sample_stats": draws,
        "observed_data": {"data": 7, "x_dim_0": 6},
    }
    assert set(idata.sample_stats.data_vars) == {"log_p", "log_q", "log_weight", "k_hat"}
    assert idata.sample_stats["k_hat"].dims == ("data",)
    assert idata.posterior["z"].dims == ("chain", "draw", "data", "z_dim_0")


def test_library_and_version_are_named(fitted):
    attrs = fitted.infer(X[:3], num_samples=2).posterior.attrs
    assert attrs["inference_library"] == "ppl_genmodels"
    assert attrs["inference_library_version"] == ppl.__version__


def test_predictions_are_drawn_on_request_alone(fitted):
    assert "posterior_predictive" not in fitted.infer(X[:3], num_samples=2).groups()


def test_shared_latents_have_joint_weights_and_plates_of_their_own(schools):
    idata = schools.infer(EightSchools.data(), num_samples=5, coords={"schools": list("ABCDEFGH")})
    assert idata.posterior["mu"].dims == ("chain", "draw")
    assert idata.posterior["theta"].dims == ("chain", "draw", "schools")
    assert idata.posterior["theta"].sel(schools="C").shape == (1, 5)
    assert idata.sample_stats["log_weight"].dims == ("chain", "draw")
    assert idata.log_likelihood["y"].dims == ("chain", "draw", "schools")
    assert idata.sample_stats["k_hat"].dims == ()


def test_labels_are_taken_for_rows_and_for_entries(fitted):
    idata = fitted.infer(X[:3], num_samples=2, coords={"data": ["a", "b", "c"], "z_dim_0": ["first", "second"]})
    assert idata.posterior["z"].sel(data="b", z_dim_0="second").shape == (1, 2)
    assert idata.observed_data["x"].sel(data="b").equals(idata.observed_data["x"][1])


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ({"datum": range(3)}, r"no dim 'datum'\. Did you mean 'data'\?"),
        ({"data": range(4)}, r"dim 'data' has length 3, got 4 labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(fitted, coords, message):
    with pytest.raises(DataError, match=message):
        fitted.infer(X[:3], num_samples=2, coords=coords)


def test_summaries_and_psis_of_arviz_take_it(fitted, schools):
    summary = arviz.summary(schools.infer(EightSchools.data(), num_samples=50), var_names=["mu"], kind="stats")
    assert np.isfinite(summary.to_numpy()).all()
    idata = fitted.infer(X, num_samples=50)
    stacked = idata.posterior["z"].stack(sample=("chain", "draw"))
    assert stacked.sizes == {"data": 50, "z_dim_0": 2, "sample": 50}


@pytest.mark.parametrize("rows", [1, 31, 200])
def test_other_numbers_of_rows_than_the_fit_had(fitted, rows):
    data = X.repeat(4, 1)[:rows]
    idata = fitted.infer(data, num_samples=3, chunk_size=30)
    assert idata.posterior.sizes["data"] == rows
    assert fitted.log_evidence(data, 3).shape == (rows,)
    assert fitted.reconstruct(data)["x"].shape == (rows, 6)


def test_one_draw(fitted):
    idata = fitted.infer(X[:4], num_samples=1)
    assert idata.posterior["z"].shape == (1, 1, 4, 2)


def test_a_seed_gives_the_same_and_none_gives_others(fitted):
    def draws(seed):
        return fitted.infer(X[:5], num_samples=4, seed=seed, predictive=True)

    first = draws(1)
    torch.rand(3)
    assert all(first[group].equals(draws(1)[group]) for group in first.groups())
    assert not first.posterior.equals(draws(2).posterior)
    assert not draws(None).posterior.equals(draws(None).posterior)
    torch.manual_seed(5)
    one = draws(None)
    torch.manual_seed(5)
    assert one.posterior.equals(draws(None).posterior)


METHODS = {
    "infer": lambda fitted: fitted.infer(X[:5], num_samples=4, seed=1, predictive=True),
    "log_evidence": lambda fitted: fitted.log_evidence(X[:5], 3),
    "reconstruct": lambda fitted: fitted.reconstruct(X[:5]),
    "sample": lambda fitted: fitted.sample(4, seed=1),
}


@pytest.mark.parametrize("name", METHODS)
def test_random_states_are_left_as_they_were(fitted, name):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    METHODS[name](fitted)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.parametrize("name", METHODS)
def test_neither_gradients_nor_modes_are_left_behind(fitted, name):
    METHODS[name](fitted)
    assert not fitted.program.training
    assert all(module.training is False for module in fitted.program.modules())


def test_results_carry_no_gradient(fitted):
    assert not fitted.log_evidence(X[:3], 2).requires_grad
    assert not fitted.reconstruct(X[:3])["x"].requires_grad
    assert not fitted.sample(2)["x"].requires_grad


def test_progress_is_shown_on_request(fitted, capsys):
    fitted.infer(X, num_samples=2)
    fitted.log_evidence(X, 2)
    assert capsys.readouterr().out == ""
    fitted.infer(X, num_samples=2, progress=True)
    fitted.log_evidence(X, 2, progress=True)
    shown = capsys.readouterr().out
    assert "infer" in shown
    assert "evidence" in shown


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_seeds_are_whole_numbers(fitted, seed):
    with pytest.raises(OptionError, match="seed must be a whole number from 0 on"):
        fitted.infer(X, num_samples=2, seed=seed)


class Predicting(nn.Module):
    """y given x: the response may be left out when it is to be predicted."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0, 2.0]))

    def model(self, x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * self.weight).sum(-1), 0.1), obs=y)


def test_a_response_that_is_left_out_is_predicted():
    fitted = fit(Predicting(), {"x": X, "y": X.sum(-1)}, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    idata = fitted.infer({"x": X[:9]}, num_samples=400, predictive=True, seed=0)
    assert "log_likelihood" not in idata.groups()
    expected = (X[:9] * fitted.program.weight).sum(-1).detach().numpy()
    mean = idata.posterior_predictive["y"].mean(("chain", "draw"))
    assert np.abs(mean - expected).max() < 5 * 0.1 / 20


@pytest.mark.parametrize("by_name", [False, True])
def test_arguments_may_be_given_by_name_or_by_position(by_name):
    data = {"x": X, "y": X.sum(-1)}
    program = LinearRegression(6)
    fitted = fit((program.model, AutoNormal(program.model)), data)
    given = data if by_name else tuple(data.values())
    idata = fitted.infer(given, num_samples=3, seed=0)
    assert idata.log_likelihood.equals(fitted.infer(data, num_samples=3, seed=0).log_likelihood)


def test_it_shows_itself(fitted):
    assert "E_q[log p(x|z)] - KL[q(z|x) || p(z)]" in repr(fitted)
    assert "<td>E_q[log p(x|z)] - KL[q(z|x) || p(z)]</td>" in fitted._repr_html_()
