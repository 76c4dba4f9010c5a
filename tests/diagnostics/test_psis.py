"""k-hat against weights whose tail is known."""

import arviz
import numpy as np
import pytest

from ppl_genmodels.diagnostics import pareto_k, psis
from ppl_genmodels.diagnostics.psis import FEWEST_DRAWS, RELIABLE

DRAWS = 2000


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_shape_of_pareto_weights_is_recovered(shape):
    """A weight U ** -shape is Pareto with exactly that tail; the estimate has a prior at 0.5."""
    uniform = np.random.default_rng(0).uniform(size=(DRAWS, 200))
    estimate = pareto_k(-shape * np.log(uniform))
    tail = 3 * DRAWS**0.5
    expected = (tail * shape + 10 * 0.5) / (tail + 10)
    standard_error = (1 + shape) / tail**0.5
    assert abs(estimate.mean() - expected) < 4 * standard_error / 200**0.5 + 0.02
    assert estimate.std() < 1.5 * standard_error


def test_exact_guide_is_good_and_narrow_guide_is_not(linear, digits):
    rows = digits.data[:40] / 16
    exact = linear.infer(rows, DRAWS, seed=0).sample_stats["k_hat"]
    linear.narrow = 0.3
    narrow = linear.infer(rows, DRAWS, seed=0).sample_stats["k_hat"]
    assert float(exact.max()) < 0.1
    assert float(narrow.min()) > RELIABLE


def test_nearly_equal_weights_are_bounded():
    noise = np.random.default_rng(0).normal(size=(DRAWS, 3))
    assert pareto_k(1e-6 * noise - 4000.0).tolist() == [0.0, 0.0, 0.0]


def test_weights_that_share_their_largest_value_are_bounded():
    level = np.random.default_rng(0).integers(0, 3, size=DRAWS)
    assert pareto_k(np.log(np.array([0.1, 0.5, 1.0]))[level]) == 0.0


def test_zero_weights_are_allowed_and_undefined_ones_are_not():
    weight = np.random.default_rng(0).normal(size=(DRAWS, 4))
    weight[:5, 1], weight[7, 2], weight[7, 3] = -np.inf, np.nan, np.inf
    assert np.isfinite(pareto_k(weight)).tolist() == [True, True, False, False]


def test_too_few_draws_say_nothing():
    weight = np.random.default_rng(0).normal(size=(FEWEST_DRAWS, 2))
    assert np.isnan(pareto_k(weight[:-1])).all()
    assert np.isfinite(pareto_k(weight)).all()


def test_rows_do_not_depend_on_how_many_are_taken_at_once(monkeypatch):
    weight = np.random.default_rng(0).normal(size=(100, 9)).astype(np.float32)
    together = pareto_k(weight)
    monkeypatch.setattr(psis, "ROWS_AT_ONCE", 2)
    assert np.array_equal(pareto_k(weight), together)
    assert np.array_equal(pareto_k(weight.reshape(100, 3, 3)), together.reshape(3, 3))


@pytest.mark.parametrize("draws", [FEWEST_DRAWS, 100, 1000])
def test_many_rows_are_fitted_as_arviz_fits_one(draws):
    """To the rounding of sums of some thousand terms of double precision; ties and zero weights among the rows."""
    noise = np.random.default_rng(0)
    weight = np.concatenate([noise.normal(size=(20, draws)), noise.exponential(size=(20, draws)) - 3000.0])
    weight[3, : draws // 2], weight[4, : draws - 3] = -np.inf, -np.inf
    weight[5] = np.round(weight[5])
    with np.errstate(all="ignore"):
        expected = np.array([arviz.psislw(row.copy())[1] for row in weight])
    received = pareto_k(weight.T)
    bounded = received == 0.0  # ties at the top, for which ArviZ fits what is not there
    assert bounded.sum() <= 1
    np.testing.assert_allclose(received[~bounded], expected[~bounded], rtol=1e-11, atol=1e-11)
