"""Supports of samples and data: sets made for the purpose, and what is expected of samples of one distribution."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from ppl_genmodels.diagnostics import density_coverage, modes_covered, nearest_neighbours, precision_recall
from ppl_genmodels.errors import DataError, OptionError

REPEATS = 200


def normal(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def two_clusters(rows, seed=0):
    """Half of the rows about each of two places that are far apart."""
    return normal(rows, 2, seed) + np.where(np.arange(rows) % 2, 100.0, 0.0)[:, None]


def by_hand(samples, data, neighbours):
    """Precision, recall, density and coverage, distance by distance."""
    radius = {name: np.sort(cdist(rows, rows))[:, neighbours] for name, rows in {"s": samples, "d": data}.items()}
    distances = cdist(samples, data)
    near_data = distances <= radius["d"]
    recall = (distances <= radius["s"][:, None]).any(0).mean()
    density = near_data.sum() / (neighbours * len(samples))
    return near_data.any(1).mean(), recall, density, near_data.any(0).mean()


@pytest.mark.parametrize("neighbours", [1, 4])
def test_all_four_are_as_the_distances_have_it(neighbours):
    samples, data = 1.3 * normal(40, 3) + 0.5, normal(60, 3, seed=1)
    support, near = (measure(samples, data, neighbours=neighbours) for measure in (precision_recall, density_coverage))
    found = support.precision, support.recall, near.density, near.coverage
    assert found == pytest.approx(by_hand(samples, data, neighbours), rel=1e-12)
    other = precision_recall(data, samples, neighbours=neighbours)
    assert (other.precision, other.recall) == (support.recall, support.precision)


def test_rows_of_few_levels_that_lie_just_at_a_radius_count_as_near():
    generator = np.random.default_rng(0)
    samples, data = generator.integers(0, 3, (2, 60, 40))
    # In whole numbers, where nothing is rounded.
    squared = ((samples[:, None] - data) ** 2).sum(-1)
    apart = np.sort(((data[:, None] - data) ** 2).sum(-1))[:, 5]
    found = density_coverage(samples / 7, data / 7, neighbours=5)
    assert (squared == apart).sum() > 10
    assert found.density == pytest.approx((squared <= apart).sum() / (5 * 60), rel=1e-12)
    assert found.coverage == pytest.approx((squared <= apart).any(0).mean(), rel=1e-12)


def test_samples_of_one_cluster_of_two_have_half_the_recall_and_coverage():
    data = two_clusters(2000)
    samples = normal(1000, 2, seed=1)
    support, near = precision_recall(samples, data), density_coverage(samples, data)
    assert support.precision > 0.95
    assert 0.45 < support.recall <= 0.5
    assert 0.4 < near.coverage <= 0.5
    assert near.density == pytest.approx(1, abs=0.1)  # it is a matter of fidelity alone


def test_samples_between_the_data_have_neither():
    data, samples = two_clusters(200), np.full((50, 2), 50.0) + 0.1 * normal(50, 2, seed=1)
    assert precision_recall(samples, data).precision == precision_recall(samples, data).recall == 0
    assert density_coverage(samples, data).density == density_coverage(samples, data).coverage == 0


@pytest.mark.parametrize("columns", [1, 6])
def test_what_is_expected_of_one_distribution_holds_in_any_dims(columns):
    drawn, seen, neighbours = 30, 20, 3
    found = [
        density_coverage(normal(drawn, columns, 2 * seed), normal(seen, columns, 2 * seed + 1), neighbours=neighbours)
        for seed in range(REPEATS)
    ]
    missed = math.prod((seen - j) / (drawn + seen - j) for j in range(1, neighbours + 1))
    for values, expected in (([f.density for f in found], 1), ([f.coverage for f in found], 1 - missed)):
        assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / REPEATS**0.5)


def test_p_values_of_new_data_are_uniform():
    found = [
        nearest_neighbours(normal(30, 2, 3 * seed), normal(100, 2, 3 * seed + 1), normal(40, 2, 3 * seed + 2))
        for seed in range(REPEATS)
    ]
    assert kstest([each.p_value for each in found], "uniform").pvalue > 0.01
    assert np.mean([each.memorised for each in found]) < 0.05


def test_samples_learned_by_heart_are_found_with_the_rows_they_are_from():
    train, held_out = normal(300, 4), normal(200, 4, seed=1)
    samples = train[:100] + 0.05 * normal(100, 4, seed=2)
    found = nearest_neighbours(samples, train, held_out)
    assert found.memorised
    assert found.copies == found.duplicates == 0
    assert (found.nearest == np.arange(100)).mean() > 0.9
    assert str(found).startswith("The samples lie too near to training rows: at a median distance of")
    exact = np.sqrt(((samples - train[found.nearest]) ** 2).sum(-1))
    np.testing.assert_allclose(found.distances, exact, rtol=1e-6)


def test_samples_unlike_the_data_are_not_called_copies():
    found = nearest_neighbours(normal(100, 4) + 5, normal(300, 4, seed=1), normal(200, 4, seed=2))
    assert not found.memorised
    assert found.p_value > 0.99
    assert str(found).startswith("The samples are no nearer than new data")


def test_copies_and_duplicates_are_counted():
    train, held_out, new = normal(100, 4), normal(100, 4, seed=1), normal(30, 4, seed=2)
    samples = np.concatenate([train[:10], new, new[:10]])
    found = nearest_neighbours(samples, train, held_out)
    assert found.copies == pytest.approx(10 / 50)
    assert found.duplicates == pytest.approx(20 / 50)


def test_modes_are_counted_and_their_shares_compared_with_even_ones():
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    offsets = np.array([[0.0, 1.0], [0.0, -0.9], [0.5, 0.0], [0.0, 1.1]])
    samples = np.concatenate([centres[[0, 0, 0, 1]] + offsets, centres[[1]]])
    found = modes_covered(samples, centres, radius=1.0)
    assert found.counts.tolist() == [3, 1, 0, 0]
    assert (found.covered, found.high_quality) == (2, 0.8)
    shares = np.array([0.75, 0.25])
    assert found.divergence == pytest.approx((shares * np.log(shares / 0.25)).sum(), rel=1e-12)
    nothing = modes_covered(samples + 1000, centres, radius=1.0)
    assert (nothing.covered, nothing.high_quality, nothing.divergence) == (0, 0, math.inf)


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
def test_rows_that_are_too_few_are_refused(measure):
    with pytest.raises(DataError, match="a sample has 5 rows, expected more than neighbours=5"):
        measure(normal(5, 2), normal(9, 2), neighbours=5)
    with pytest.raises(OptionError, match="neighbours=0"):
        measure(normal(5, 2), normal(9, 2), neighbours=0)
    with pytest.raises(DataError, match="rows of data hold NaN"):
        measure(normal(9, 2), np.full((9, 2), np.inf))


def test_shapes_that_differ_and_radii_that_are_none_are_refused():
    with pytest.raises(DataError, match=r"held_out the event shape \(3,\), expected the same"):
        nearest_neighbours(normal(5, 2), normal(5, 2), normal(5, 3))
    with pytest.raises(DataError, match=r"centres the event shape \(3,\), expected the same"):
        modes_covered(normal(5, 2), normal(5, 3), 1.0)
    with pytest.raises(OptionError, match="radius=0"):
        modes_covered(normal(5, 2), normal(5, 2), 0)
