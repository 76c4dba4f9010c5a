"""Tests of two samples: their level when both have one distribution, and their power against known differences."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import kstest, norm
from sklearn.neighbors import KNeighborsClassifier

from ppl_genmodels.diagnostics import classifier_two_sample, mmd_test
from ppl_genmodels.errors import DataError, OptionError

REPEATS = 200


def normal(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def nearest(first, second, seed=0):
    return classifier_two_sample(first, second, classifier=KNeighborsClassifier(5), seed=seed)


@pytest.fixture(scope="module")
def under_the_null():
    """Tests of samples of one distribution by a classifier whose folds are as dependent as any."""
    return [nearest(normal(50, 2, 2 * seed), normal(50, 2, 2 * seed + 1), seed) for seed in range(REPEATS)]


def test_a_classifier_is_right_half_the_time_on_samples_of_one_distribution(under_the_null):
    accuracy = np.array([found.accuracy for found in under_the_null])
    assert accuracy.mean() == pytest.approx(0.5, abs=4 * accuracy.std() / REPEATS**0.5)


def test_small_p_values_are_no_more_frequent_than_they_may_be(under_the_null):
    p_values = [found.p_value for found in under_the_null]
    assert kstest(p_values, "uniform", alternative="greater").pvalue > 0.01


def test_the_standard_error_covers_the_spread_though_folds_share_rows(under_the_null):
    spread = np.std([found.accuracy for found in under_the_null], ddof=1)
    independent = 0.5 / math.sqrt(100)
    assert spread > independent  # why it is inflated
    # By a chi-squared bound on the spread of so many repeats.
    assert spread < under_the_null[0].standard_error * (1 + 3 / math.sqrt(2 * REPEATS))


def test_the_network_finds_what_the_best_classifier_finds():
    first, second = normal(300, 2), normal(300, 2, seed=1) + np.array([2.0, 0.0])
    found = classifier_two_sample(first, second)
    assert found.accuracy == pytest.approx(norm.cdf(1.0), abs=4 * found.standard_error)
    assert found.p_value < 1e-6
    chance = 1.5 * 0.5 / math.sqrt(600)
    assert found.p_value == pytest.approx(norm.sf((found.accuracy - 0.5) / chance), rel=1e-6)


def test_the_network_finds_a_difference_that_no_marginal_shows():
    first, second = normal(300, 2), normal(300, 2, seed=1)
    second[:, 1] = 0.95 * second[:, 0] + math.sqrt(1 - 0.95**2) * second[:, 1]
    assert classifier_two_sample(first, second).p_value < 0.01


def test_of_the_larger_sample_as_many_rows_are_drawn():
    found = nearest(normal(500, 1), normal(40, 1, seed=1))
    assert found.rows == 40
    assert 0.25 < found.accuracy < 0.75  # a constant answer would be right in 500 of 540 rows otherwise


def test_units_shapes_and_kinds_of_arrays_change_nothing():
    first, second = normal(60, 4), normal(60, 4, seed=1) + 0.3
    found = nearest(first, second)
    units = 2.0 ** np.array([10, -5, 0, 3])
    assert nearest(first * units, second * units) == found
    images = [torch.tensor(values, requires_grad=True).reshape(60, 1, 2, 2) for values in (first, second)]
    assert nearest(*images) == found
    assert str(found).startswith("A classifier tells 60 and 60 rows apart with an accuracy of 0.")


def test_the_discrepancy_is_the_one_of_the_formula():
    first, second = normal(7, 3), 1.5 * normal(4, 3, seed=1)
    found = mmd_test(first, second, factors=(1.0, 3.0), permutations=1)
    everything = np.concatenate([first, second])
    distances = cdist(everything, everything)
    median = np.median(distances[np.triu_indices(11, 1)])
    kernel = sum(np.exp(-0.5 * (distances / (factor * median)) ** 2) / 2 for factor in (1.0, 3.0))
    within = kernel[:7, :7].sum() - 7, kernel[7:, 7:].sum() - 4
    expected = within[0] / 42 + within[1] / 12 - 2 * kernel[:7, 7:].mean()
    assert found.bandwidth == pytest.approx(median, rel=1e-12)
    assert found.squared_mmd == pytest.approx(expected, abs=1e-12)


def test_the_discrepancy_of_normals_is_the_closed_form():
    shift, found = 1.5, []
    for seed in range(20):
        first, second = normal(200, 1, 2 * seed), normal(200, 1, 2 * seed + 1) + shift
        estimate = mmd_test(first, second, factors=(1.0,), permutations=1)
        width = estimate.bandwidth**2
        exact = 2 * math.sqrt(width / (width + 2)) * (1 - math.exp(-(shift**2) / (2 * (width + 2))))
        found.append(estimate.squared_mmd - exact)
    # The bandwidth moves with the sample, and the estimate with it, in the second order alone.
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / 20**0.5)


def test_permutation_p_values_are_uniform_and_the_estimate_unbiased():
    found = [
        mmd_test(normal(12, 2, 2 * seed), normal(18, 2, 2 * seed + 1), permutations=199, seed=seed)
        for seed in range(REPEATS)
    ]
    p_values, estimates = [each.p_value for each in found], np.array([each.squared_mmd for each in found])
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert estimates.mean() == pytest.approx(0, abs=4 * estimates.std() / REPEATS**0.5)


def test_the_discrepancy_has_power_and_moves_with_neither_place_nor_turn():
    first, second = normal(60, 2), normal(60, 2, seed=1) + np.array([1.0, 0.0])
    found = mmd_test(first, second)
    assert found.p_value == pytest.approx(1 / 501)
    turn, _ = np.linalg.qr(normal(2, 2, seed=2))
    moved = mmd_test(3 * first @ turn + 7, 3 * second @ turn + 7)
    assert moved.squared_mmd == pytest.approx(found.squared_mmd, rel=1e-9)
    assert moved.bandwidth == pytest.approx(3 * found.bandwidth, rel=1e-9)
    assert mmd_test(second, first).squared_mmd == pytest.approx(found.squared_mmd, rel=1e-9)


def test_seeds_decide():
    first, second = normal(40, 2), normal(40, 2, seed=1) + 0.3
    assert classifier_two_sample(first, second, seed=3) == classifier_two_sample(first, second, seed=3)
    assert mmd_test(first, second, seed=3) == mmd_test(first, second, seed=3)
    assert len({mmd_test(first, second, seed=seed).p_value for seed in range(5)}) > 1


def test_what_cannot_be_is_refused():
    rows = np.ones((30, 2))
    with pytest.raises(DataError, match=r"first has the shape \(10, 2\), expected .* at least 20 rows"):
        classifier_two_sample(rows[:10], rows)
    with pytest.raises(DataError, match="more than half the pairs of rows are equal"):
        mmd_test(rows, rows)
    with pytest.raises(OptionError, match="permutations=0"):
        mmd_test(rows, rows, permutations=0)
    with pytest.raises(OptionError, match="factors="):
        mmd_test(rows, rows, factors=(0.0,))
