"""History and gradient norm: curves, sentences with computed numbers, short and broken histories."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from ppl_genmodels.diagnostics import (
    describe_gradient,
    describe_history,
    plot_gradient,
    plot_history,
)
from ppl_genmodels.errors import DataError


@pytest.fixture
def trained(linear):
    def make(objective, **columns):
        columns = {"step": np.arange(len(objective)), "objective": objective, **columns}
        linear.history = pd.DataFrame(columns)
        return linear

    return make


def rise(steps, noise=0.01):
    generator = np.random.default_rng(0)
    curve = 25 - 60 * np.exp(-np.arange(steps) / (steps / 15))
    return curve + noise * generator.normal(size=steps)


def test_a_panel_for_the_objective_and_each_term(linear):
    axes = plot_history(linear)
    assert [ax.get_title() for ax in axes] == ["objective", "log_lik", "kl"]
    assert {ax.get_ylabel() for ax in axes} == {"nats per row"}
    curve = axes[0].lines[0]
    assert np.array_equal(curve.get_ydata(), linear.history["objective"])


def test_validation_stands_beside_the_objective(linear):
    drawn = {line.get_label(): line for line in plot_history(linear)[0].lines}
    seen = linear.history.dropna(subset="validation")
    assert np.array_equal(drawn["validation"].get_xdata(), seen["step"])
    assert np.array_equal(drawn["validation"].get_ydata(), seen["validation"])


def test_a_levelled_run_has_converged(trained):
    fitted = trained(rise(1000))
    start, end = fitted.history["objective"][:10].mean(), fitted.history["objective"][-100:].mean()
    sentence = describe_history(fitted)
    assert f"rose from {start:.4g} to {end:.4g} nats" in sentence
    assert "over the last 100 steps it changed by" in sentence
    assert "converged" in sentence


def test_slope_and_its_error_are_those_of_least_squares(trained):
    assert "changed by 0.5 ± " in describe_history(trained(0.5 * np.arange(600)))
    assert "still rising" in describe_history(trained(0.5 * np.arange(600)))
    assert "falling" in describe_history(trained(-0.5 * np.arange(600)))
    values = rise(2000, noise=0.5)
    fit = scipy.stats.linregress(np.arange(1800, 2000), values[-200:])
    sentence = describe_history(trained(values))
    assert f"{fit.slope:.2g} ± {fit.stderr:.1g} per step" in sentence


def test_noise_is_not_called_a_trend(trained):
    noise = np.random.default_rng(1).normal(size=1000)
    assert "level within its noise" in describe_history(trained(0.001 * np.arange(1000) + noise))


def test_overfitting_is_told(trained):
    validation = np.full(1000, np.nan)
    validation[99::100] = [1, 3, 5, 7, 9, 8, 7, 6, 5, 4]
    sentence = describe_history(trained(rise(1000), validation=validation))
    assert "Validation was best, 9, at step 499 and has fallen by 5 since." in sentence


@pytest.mark.parametrize("steps", [1, 2, 7, 60])
def test_short_histories_are_drawn_and_described(trained, steps):
    fitted = trained(rise(steps), kl=np.ones(steps), gradient_norm=np.ones(steps))
    assert len(plot_history(fitted)) >= 1
    assert plot_gradient(fitted).get_yscale() == "log"
    assert describe_history(fitted).startswith("The objective ")
    assert "is 1;" in describe_gradient(fitted)


def test_bursts_of_the_gradient_are_counted(trained):
    norm = np.ones(500)
    norm[[50, 200, 333]] = 40
    assert "3 of 500 steps" in describe_gradient(trained(rise(500), gradient_norm=norm))


def test_a_gradient_of_zero_and_gaps_do_not_break_the_scale(trained):
    norm = np.array([0.0, np.nan, 1.0, 2.0])
    low, high = plot_gradient(trained(rise(4), gradient_norm=norm)).get_ylim()
    assert 0 < low < 1
    assert high > 2


def test_nothing_to_draw_is_an_error(trained):
    with pytest.raises(DataError, match="no values of 'objective'"):
        plot_history(trained([]))
    with pytest.raises(DataError, match="no values of 'gradient_norm'"):
        plot_gradient(trained(rise(5)))


def test_given_axes_are_drawn_on(linear):
    from matplotlib.figure import Figure

    axes = Figure().subplots(1, 3)
    assert list(plot_history(linear, axes)) == list(axes)
    assert plot_gradient(linear, axes[0]) is axes[0]
