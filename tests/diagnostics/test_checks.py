"""Predictive check, calibration and k-hat: right on data from the program, wrong where it is wrong."""

import numpy as np
import pytest

from ppl_genmodels.diagnostics import (
    describe_calibration,
    describe_khat,
    describe_predictive,
    plot_calibration,
    plot_khat,
    plot_predictive,
    to_inference_data,
)
from ppl_genmodels.diagnostics.calibration import coverage, predictive_rank
from ppl_genmodels.errors import DataError, UnknownNameError
from ppl_genmodels.inference.draws import Draws

ROWS, DRAWS = 1000, 200


def replicated(observed, predicted):
    dims = ("data", "y_dim_0")[: observed.ndim]
    return to_inference_data(
        Draws(
            posterior={"z": np.zeros((1, len(predicted), len(observed)))},
            dims={"z": ("data",), "y": dims},
            posterior_predictive={"y": predicted[None]},
            observed_data={"y": observed},
            attrs={"data_plate": "data"},
        )
    )


def normal(scale, *event):
    generator = np.random.default_rng(0)
    predicted = generator.normal(size=(DRAWS, ROWS, *event))
    return replicated(scale * generator.normal(size=(ROWS, *event)), predicted)


def test_ranks_are_uniform_when_the_predictive_is_right():
    rank = predictive_rank(normal(1.0))
    assert 0 < rank.min() < rank.max() < 1
    assert abs(rank.mean() - 0.5) < 4 * np.sqrt(1 / 12 / ROWS)
    assert abs(rank.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / ROWS)


def test_ranks_of_counts_are_uniform_too():
    generator = np.random.default_rng(1)
    idata = replicated(generator.poisson(1.5, ROWS), generator.poisson(1.5, (DRAWS, ROWS)))
    found = coverage(predictive_rank(idata), np.array([0.5, 0.9]))
    error = np.sqrt(np.array([0.25, 0.09]) / ROWS)
    assert (np.abs(found - [0.5, 0.9]) < 4 * error).all()


@pytest.mark.parametrize(("scale", "word"), [(1.0, "about right"), (1.6, "too narrow"), (0.5, "too wide")])
def test_coverage_and_its_verdict(scale, word):
    from scipy.stats import norm

    idata = normal(scale)
    half, most = (2 * norm.cdf(norm.ppf([0.75, 0.95]) / scale) - 1) * 100
    sentence = describe_calibration(idata)
    found = [int(part.split()[-1]) for part in sentence.split(" %")[2:4]]
    assert found == pytest.approx([half, most], abs=8)
    assert sentence.endswith(f"they are {word}.")


def test_rows_with_latents_of_their_own_are_compared_with_samples(make_linear):
    """Data from the program itself: calibrated against samples, not against what has seen them."""
    fitted = make_linear(np.random.default_rng(2).normal(size=(500, 4)) * [3, 2, 1, 1], 2)
    rows = np.asarray(fitted.sample(ROWS, seed=7)["x"])
    idata = fitted.infer(rows, DRAWS, predictive=True, seed=0)
    samples = np.asarray(fitted.sample(5000, seed=8)["x"])
    assert "about right" in describe_calibration(idata, samples=samples)
    assert "too wide" in describe_calibration(idata)
    assert plot_calibration(idata, samples=samples).lines


def test_calibration_curve_runs_along_the_diagonal():
    ax = plot_calibration(normal(1.0, 3))
    found = ax.lines[-1]
    assert np.abs(found.get_xdata() - found.get_ydata()).max() < 4 * np.sqrt(0.25 / (3 * ROWS))
    assert ax.get_legend() is not None


def test_predictive_check_of_one_feature_shows_data_among_replicates():
    ax = plot_predictive(normal(1.0))
    assert len(ax.lines) == 51
    data = ax.lines[-1]
    assert data.get_label() == "data"
    assert np.all(np.diff(data.get_ydata()) >= 0)
    assert data.get_ydata()[-1] == 1.0


def test_predictive_check_of_many_features_shows_their_moments():
    idata = normal(2.0, 7)
    means, deviations = plot_predictive(idata).collections
    observed = idata.observed_data["y"].values
    assert np.allclose(means.get_offsets()[:, 0], observed.mean(0))
    assert np.allclose(deviations.get_offsets()[:, 0], observed.std(0))
    assert np.allclose(deviations.get_offsets()[:, 1], 1.0, atol=0.02)


def test_predictive_sentence_says_inside_or_outside():
    assert describe_predictive(normal(1.0)).count(" inside ") == 2
    wrong = describe_predictive(normal(2.0))
    deviation = normal(2.0).observed_data["y"].values.std()
    assert f"standard deviation {deviation:.4g} is outside" in wrong


def test_missing_observations_are_left_out():
    idata = normal(1.0, 3)
    idata.observed_data["y"].values[:, 0] = np.nan
    idata.observed_data["y"].values[:500, 1] = np.nan
    assert len(predictive_rank(idata)) == 1500
    assert np.isfinite(plot_predictive(idata).collections[0].get_offsets()).all()
    assert "nan" not in describe_predictive(idata)


def test_without_replicates_the_remedy_is_named(linear, digits):
    idata = linear.infer(digits.data[:5] / 16, 30, seed=0)
    with pytest.raises(DataError, match="predictive=True"):
        plot_predictive(idata)
    with pytest.raises(UnknownNameError, match="no observed site 'x'"):
        plot_calibration(normal(1.0), site="x")


@pytest.mark.parametrize("rows", [1, 60, 300])
def test_k_hat_is_counted_by_band(linear, digits, rows):
    linear.narrow = 0.5
    idata = linear.infer(digits.data[:rows] / 16, 400, seed=0)
    values = idata.sample_stats["k_hat"].values
    ax = plot_khat(idata)
    counts = [int(text.get_text().split("(")[1][:-1]) for text in ax.get_legend().get_texts()]
    assert counts == [
        (values <= 0.5).sum(),
        ((values > 0.5) & (values <= 0.7)).sum(),
        (values > 0.7).sum(),
    ]


def test_k_hat_sentence_holds_the_numbers(linear, digits):
    linear.narrow = 0.5
    idata = linear.infer(digits.data[:200] / 16, 400, seed=0)
    values = idata.sample_stats["k_hat"].values
    sentence = describe_khat(idata)
    assert f"for {100 * (values < 0.7).mean():.0f} % of rows" in sentence
    assert f"largest value {values.max():.2f} at row {values.argmax()}" in sentence


def test_k_hat_of_a_whole_posterior(schools):
    idata = schools.infer(np.zeros(8), 300, seed=0)
    value = float(idata.sample_stats["k_hat"])
    assert describe_khat(idata).startswith(f"k-hat is {value:.2f}, below 0.7")
    assert plot_khat(idata).get_xlabel() == "whole posterior"


def test_infinite_k_hat_is_drawn_at_the_top():
    weight = np.random.default_rng(0).normal(size=(1, 100, 3))
    weight[..., 1] *= 5000
    draws = Draws({}, {}, sample_stats={"log_weight": weight}, attrs={"data_plate": "data"})
    idata = to_inference_data(draws)
    assert np.isinf(idata.sample_stats["k_hat"].values[1])
    assert plot_khat(idata).get_ylim()[1] > 2.0
    assert "inf at row 1" in describe_khat(idata)


def test_k_hat_that_is_not_there_is_told(linear, digits):
    with pytest.raises(DataError, match="21 draws or more"):
        plot_khat(linear.infer(digits.data[:5] / 16, 5, seed=0))
    chain = to_inference_data(Draws({"mu": np.zeros((1, 5))}, {"mu": ()}))
    with pytest.raises(DataError, match="no importance weights"):
        plot_khat(chain)
