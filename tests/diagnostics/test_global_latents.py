"""Forest, trace, pairs and summary of global latents."""

import numpy as np
import pytest

from ppl_genmodels.diagnostics import (
    describe_globals,
    describe_pairs,
    describe_trace,
    plot_forest,
    plot_pair,
    plot_trace,
    summary,
    to_inference_data,
)
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference.draws import Draws


def regression(chains=1, draws=200, features=3):
    generator = np.random.default_rng(0)
    beta = generator.normal(size=(chains, draws, features))
    beta[..., 1] = 0.9 * beta[..., 0] + 0.1 * beta[..., 1]
    stats = {"diverging": generator.random((chains, draws)) < 0.05} if chains > 1 else {}
    return to_inference_data(
        Draws(
            posterior={
                "beta": beta,
                "scale": generator.gamma(2.0, size=(chains, draws)),
                "fixed": np.full((chains, draws), 2.5),
                "mean": generator.normal(size=(chains, draws, 500)),
            },
            dims={"beta": ("feature",), "mean": ("data",)},
            sample_stats=stats,
            attrs={"data_plate": "data"},
        ),
        coords={"feature": [f"f{index}" for index in range(features)]},
    )


@pytest.mark.parametrize("chains", [1, 3])
def test_summary_holds_the_readable_variables_with_their_moments(chains):
    idata = regression(chains)
    table = summary(idata)
    assert list(table.index) == ["beta[f0]", "beta[f1]", "beta[f2]", "scale", "fixed"]
    draws = idata.posterior["scale"].values
    assert table.loc["scale", "mean"] == pytest.approx(draws.mean(), abs=1e-3)
    assert table.loc["scale", "sd"] == pytest.approx(draws.std(), rel=5e-3)
    assert ("r_hat" in table) == (chains > 1)


def test_sentence_gives_moments_and_whether_chains_agree():
    idata = regression(3)
    table = summary(idata)
    sentence = describe_globals(idata)
    first = table.iloc[0]
    assert f"beta[f0] = {first['mean']:.3g} ± {first['sd']:.2g}" in sentence
    assert f"R-hat is {table['r_hat'].max():.3f}" in sentence
    idata.posterior["scale"].values[0] += 10
    assert "the chains disagree" in describe_globals(idata)


def test_forest_has_a_line_for_each_component(schools):
    labels = [text.get_text() for text in plot_forest(schools.infer(np.zeros(8), 50)).get_yticklabels()]
    assert len(labels) == 10
    assert {"mu", "tau", "theta[0]"} <= set(labels)


@pytest.mark.parametrize("chains", [1, 3])
def test_trace_shows_components_that_vary_with_their_labels(chains):
    axes = plot_trace(regression(chains))
    assert axes.shape == (4, 2)
    assert [row[0].get_title() for row in axes] == ["beta[f0]", "beta[f1]", "beta[f2]", "scale"]


@pytest.mark.parametrize(("features", "panels"), [(1, 1), (2, 2), (8, 3)])
def test_pairs_of_up_to_four_components(features, panels):
    generator = np.random.default_rng(0)
    posterior = {"b": generator.normal(size=(1, 50, features)), "s": generator.random((1, 50))}
    axes = plot_pair(to_inference_data(Draws(posterior, {"b": ("feature",)})))
    assert axes.shape == (panels, panels)
    assert axes[-1, 0].get_xlabel() == "b[0]"


def test_the_strongest_correlation_is_named():
    idata = regression()
    beta = idata.posterior["beta"].values[0]
    value = np.corrcoef(beta[:, 0], beta[:, 1])[0, 1]
    assert f"{value:.2f}, is that of beta[f0] and beta[f1]" in describe_pairs(idata)


def test_chains_are_described_by_what_they_are_worth():
    idata = regression(3)
    diverged = int(idata.sample_stats["diverging"].sum())
    assert describe_trace(idata).startswith("3 chains of 200 draws, worth at least ")
    assert f"{diverged} transitions diverged" in describe_trace(idata)
    assert describe_trace(regression()).startswith("200 draws")


def test_few_draws_are_drawn():
    idata = regression(draws=3)
    plot_forest(idata)
    plot_trace(idata)
    plot_pair(idata)
    assert np.isfinite(summary(idata)["mean"]).all()


def test_points_have_no_trace():
    idata = to_inference_data(Draws({"mu": np.ones((1, 5))}, {"mu": ()}))
    with pytest.raises(DataError, match="varies over draws"):
        plot_trace(idata)
    assert summary(idata).loc["mu", "sd"] == 0


def test_one_component_has_no_pairs():
    idata = to_inference_data(Draws({"mu": np.random.default_rng(0).random((1, 5))}, {"mu": ()}))
    with pytest.raises(DataError, match="one component"):
        plot_pair(idata)


def test_given_axes_are_drawn_on():
    from matplotlib.figure import Figure

    idata = regression()
    ax = Figure().subplots()
    assert plot_forest(idata, ax) is ax
    axes = Figure().subplots(4, 2)
    assert (plot_trace(idata, axes) == axes).all()
    axes = Figure().subplots(3, 3)
    assert (plot_pair(idata, axes) == axes).all()
