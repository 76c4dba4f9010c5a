"""Distances of samples: closed forms of normals, one dim by sorting, all permutations of a few rows."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import wasserstein_distance
from torch import nn

from ppl_genmodels.diagnostics import frechet_distance, sliced_wasserstein, wasserstein
from ppl_genmodels.errors import DataError, OptionError


def normal(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


@pytest.mark.parametrize("order", [1, 2])
def test_the_exact_distance_is_the_least_over_all_permutations(order):
    first, second = normal(6, 2), 2 * normal(6, 2, seed=1)
    costs = [
        (np.linalg.norm(first - second[list(order_)], axis=1) ** order).mean() for order_ in permutations(range(6))
    ]
    assert wasserstein(first, second, order=order) == pytest.approx(min(costs) ** (1 / order), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_in_one_dim_both_distances_are_those_of_the_sorted_rows(order):
    first, second = normal(50, 1), 3 * normal(50, 1, seed=1)
    moved = np.abs(np.sort(first, 0) - np.sort(second, 0)) ** order
    expected = moved.mean() ** (1 / order)
    assert wasserstein(first, second, order=order) == pytest.approx(expected, rel=1e-12)
    assert sliced_wasserstein(first, second, order=order) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [(7, 4), (6, 4), (5, 20), (1, 3)])
def test_samples_of_other_many_rows_are_compared_by_their_quantiles(rows):
    first, second = normal(rows[0], 1), normal(rows[1], 1, seed=1) + 1
    peer = wasserstein_distance(first[:, 0], second[:, 0])
    assert sliced_wasserstein(first, second, order=1) == pytest.approx(peer, rel=1e-12)
    # As often repeated as the other has rows, both have equally many.
    alike = np.sort(first.repeat(rows[1])), np.sort(second.repeat(rows[0]))
    exact = ((alike[0] - alike[1]) ** 2).mean() ** 0.5
    assert sliced_wasserstein(first, second, order=2) == pytest.approx(exact, rel=1e-12)


def test_normals_are_as_far_apart_as_the_closed_form_has_it():
    shift, scale, rows = 1.0, 2.0, 400
    exact = np.hypot(shift, scale - 1)
    pairs = [(normal(rows, 1, 2 * seed), shift + scale * normal(rows, 1, 2 * seed + 1)) for seed in range(20)]
    for distance in (wasserstein, sliced_wasserstein):
        found = np.array([distance(*pair, order=2) for pair in pairs])
        # The bias is of the order of log log n / n, far below the error.
        assert found.mean() == pytest.approx(exact, abs=4 * found.std() / 20**0.5)


def test_a_shift_is_its_length_and_in_slices_its_share():
    first, vector = normal(30, 4), np.array([3.0, 0.0, 4.0, 0.0])
    assert wasserstein(first, first + vector) == pytest.approx(5, rel=1e-12)
    assert wasserstein(first, (first + vector)[::-1], order=2) == pytest.approx(5, rel=1e-12)
    # The squared cosine of a direction in 4 dims has mean 1/4 and variance 1/16 (a Beta(1/2, 3/2)).
    squared = sliced_wasserstein(first, first + vector, projections=2000) ** 2
    assert squared == pytest.approx(25 / 4, abs=4 * 25 / 4 / 2000**0.5)
    assert sliced_wasserstein(first, first) == 0


def test_slices_are_those_of_the_seed():
    first, second = normal(30, 3), normal(20, 3, seed=1) + 1
    found = [sliced_wasserstein(first, second, projections=5, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def exactly(mean, covariance, rows=400):
    """A sample whose mean and covariance are these to rounding."""
    drawn = normal(rows, len(mean))
    drawn = drawn - drawn.mean(0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_is_the_closed_form_of_the_moments():
    factors = normal(5, 5), normal(5, 5, seed=1)
    covariances = [factor @ factor.T + 0.1 * np.eye(5) for factor in factors]
    means = normal(2, 5, seed=2)
    first, second = (exactly(mean, covariance) for mean, covariance in zip(means, covariances, strict=True))
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)
    turn, _ = np.linalg.qr(normal(5, 5, seed=3))
    assert frechet_distance(first @ turn + 2, second @ turn + 2) == pytest.approx(expected, rel=1e-8)


def test_covariances_without_full_rank_are_no_trouble():
    few, many = normal(4, 30), normal(4, 30, seed=1)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(few, few + 1) == pytest.approx(30, rel=1e-9)
    assert frechet_distance(few, many) > 0
    assert frechet_distance(np.zeros((5, 2)), np.ones((5, 2))) == pytest.approx(2)
    assert frechet_distance(np.arange(5.0), np.arange(5.0) + 3) == pytest.approx(9)


def test_features_of_a_network_take_the_place_of_values():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    first, second = (torch.tensor(normal(700, 12, seed)).reshape(700, 3, 2, 2) for seed in (0, 1))
    seen = [network(values).detach().numpy() for values in (first, second)]
    found = frechet_distance(first, second, features=network)
    assert found == pytest.approx(frechet_distance(*seen), rel=1e-9)
    single = frechet_distance(first.numpy(), second.numpy(), features=network.float())
    assert single == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("distance", [wasserstein, sliced_wasserstein, frechet_distance])
def test_what_cannot_be_compared_is_refused(distance):
    rows = np.ones((5, 2))
    holed = rows.copy()
    holed[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of 5 rows of second hold NaN or infinite values, the first of them row 3"):
        distance(rows, holed)
    with pytest.raises(DataError, match=r"first the event shape \(2,\) and second the event shape \(1,\)"):
        distance(rows, rows[:, :1])
    with pytest.raises(DataError, match="first has the shape"):
        distance(rows[:0], rows)


def test_orders_and_rows_that_do_not_fit_are_refused():
    rows = np.ones((5, 2))
    with pytest.raises(DataError, match="first has 5 rows and second 4, expected equally many"):
        wasserstein(rows, rows[:4])
    for distance in (wasserstein, sliced_wasserstein):
        with pytest.raises(OptionError, match="order=3, expected 1 or 2"):
            distance(rows, rows, order=3)
    with pytest.raises(OptionError, match="projections=0"):
        sliced_wasserstein(rows, rows, projections=0)
