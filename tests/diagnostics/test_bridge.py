"""Named draws as InferenceData: groups, dims, labels, k-hat, and a round trip through a file."""

import arviz
import numpy as np
import pytest

from ppl_genmodels.diagnostics import to_inference_data
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference.draws import Draws


@pytest.fixture
def draws(linear, digits):
    return linear.draws(digits.data[:6] / 16, 50, predictive=True, seed=0)


def test_every_group_has_the_dims_of_its_plates(draws):
    idata = to_inference_data(draws)
    assert idata.posterior["z"].dims == ("chain", "draw", "data", "z_dim_0")
    assert idata.posterior_predictive["x"].dims == ("chain", "draw", "data", "x_dim_0")
    assert idata.log_likelihood["x"].dims == ("chain", "draw", "data")
    assert idata.observed_data["x"].dims == ("data", "x_dim_0")
    assert idata.sample_stats["log_p"].dims == ("chain", "draw", "data")
    assert idata.sample_stats["k_hat"].dims == ("data",)
    assert np.array_equal(idata.posterior["z"].values, draws.posterior["z"])


def test_attributes_name_the_library_and_keep_those_of_the_draws(draws):
    idata = to_inference_data(draws)
    for attrs in (idata.attrs, idata.posterior.attrs, idata.observed_data.attrs):
        assert attrs["inference_library"] == "ppl_genmodels"
        assert attrs["inference_library_version"]
        assert attrs["data_plate"] == "data"


def test_labels_select_rows(draws):
    idata = to_inference_data(draws, coords={"data": list("abcdef")})
    selected = idata.posterior["z"].sel(data="c").values
    assert np.array_equal(selected, draws.posterior["z"][:, :, 2])
    assert idata.sample_stats["k_hat"].sel(data="f").shape == ()


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ({"data": ["a", "b"]}, r"dim 'data' has length 6, got 2 labels"),
        ({"dato": list("abcdef")}, r"no dim 'dato'.*Did you mean 'data'"),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_name(draws, coords, message):
    with pytest.raises(DataError, match=message):
        to_inference_data(draws, coords)


def test_global_latents_have_one_k_hat(schools):
    idata = schools.infer(np.zeros(8), 100, seed=0)
    assert idata.sample_stats["k_hat"].shape == ()
    assert np.isfinite(idata.sample_stats["k_hat"])


def test_groups_without_content_are_left_out():
    idata = to_inference_data(Draws({"mu": np.zeros((2, 5))}, {"mu": ()}))
    assert idata.groups() == ["posterior"]


def test_chains_statistics_are_kept_as_they_are():
    stats = {"diverging": np.zeros((2, 5), bool), "lp": np.ones((2, 5))}
    idata = to_inference_data(Draws({"mu": np.zeros((2, 5))}, {"mu": ()}, sample_stats=stats))
    assert set(idata.sample_stats.data_vars) == {"diverging", "lp"}


def test_a_file_holds_the_same(draws, tmp_path):
    idata = to_inference_data(draws, coords={"data": list("abcdef")})
    idata.to_netcdf(str(tmp_path / "posterior.nc"))
    loaded = arviz.from_netcdf(str(tmp_path / "posterior.nc"))
    assert loaded.groups() == idata.groups()
    assert loaded.sample_stats["k_hat"].equals(idata.sample_stats["k_hat"])
    assert loaded.attrs["inference_library"] == "ppl_genmodels"
