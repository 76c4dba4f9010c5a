"""Information per dimension against closed forms, and the count of active dimensions."""

import numpy as np
import pytest

from ppl_genmodels.diagnostics import (
    describe_information,
    latent_information,
    plot_information,
    to_inference_data,
)
from ppl_genmodels.errors import DataError, UnknownNameError
from ppl_genmodels.inference.draws import Draws

ROWS = 400


def local_posterior(z, plate="data", name="z"):
    z = np.asarray(z)
    return to_inference_data(Draws({name: z}, {name: (plate, "z_dim_0")[: z.ndim - 2]}, attrs={"data_plate": plate}))


def gaussian(means, scales, draws, seed=0):
    noise = np.random.default_rng(seed).normal(size=(1, draws, *means.shape))
    return local_posterior(means + scales * noise)


@pytest.fixture
def moments():
    generator = np.random.default_rng(1)
    means = generator.normal(size=(ROWS, 3)) * [1.5, 0.5, 0.0]
    scales = np.exp(generator.normal(size=(ROWS, 3)) * 0.3) * [0.2, 0.9, 1.0]
    return means, scales


@pytest.mark.parametrize("draws", [20, 500])
def test_divergence_from_the_prior_is_the_gaussian_one(moments, draws):
    means, scales = moments
    prior = {"z": np.random.default_rng(2).normal(size=(200_000, 3))}
    exact = 0.5 * (scales**2 + means**2 - 1 - np.log(scales**2)).mean(0)
    found = latent_information(gaussian(means, scales, draws), prior)
    spread = np.sqrt(0.5 / draws + means**2 * scales**2 / draws).mean(0) / np.sqrt(ROWS)
    assert np.all(np.abs(found["information"] - exact) < 4 * spread + 0.01)


def test_divergence_from_the_average_posterior_is_mutual_information():
    """Gaussian rows with Gaussian means: half the log of total over conditional variance."""
    means = np.random.default_rng(3).normal(size=(20_000, 2)) * [2.0, 0.3]
    scales = np.array([0.5, 1.0])
    exact = 0.5 * np.log1p([2.0**2 / 0.5**2, 0.3**2])
    found = latent_information(gaussian(means, scales, 30))["information"]
    assert np.abs(found - exact).max() < 4 * np.sqrt(0.5 / 20_000) + 0.005


def test_active_dimensions_are_those_whose_mean_varies():
    means = np.random.default_rng(4).normal(size=(ROWS, 6)) * [1, 0.5, 0.15, 0.05, 0.01, 0]
    found = latent_information(gaussian(means, np.ones(6), 2000))
    assert found["active"].tolist() == [True, True, True, False, False, False]
    assert np.allclose(found["variance_of_mean"], means.var(0, ddof=1), atol=0.006)


def test_few_draws_do_not_make_dimensions_active():
    found = latent_information(gaussian(np.zeros((ROWS, 5)), np.ones(5), 10))
    assert not found["active"].any()


def test_discrete_information_is_its_entropy_when_rows_know_their_category():
    category = np.arange(ROWS) % 4
    found = latent_information(local_posterior(np.tile(category, (1, 50, 1))))
    assert found["information"].item() == pytest.approx(np.log(4))
    unrelated = np.random.default_rng(5).integers(0, 4, size=(1, 500, ROWS))
    assert latent_information(local_posterior(unrelated))["information"].item() < 0.01


def test_constant_dimensions_carry_nothing():
    z = np.random.default_rng(6).normal(size=(1, 30, ROWS, 2))
    z[..., 1] = 0.7
    assert latent_information(local_posterior(z))["information"].tolist()[1] == 0.0


def test_a_posterior_of_points_is_infinitely_informative_and_still_drawn():
    z = np.tile(np.linspace(-1, 1, ROWS) ** 3, (1, 30, 1))
    idata = local_posterior(z)
    assert latent_information(idata)["information"].item() == np.inf
    assert plot_information(idata).get_title()


def test_picture_has_a_bar_for_each_dimension_and_says_how_many_are_active(moments):
    idata = gaussian(*moments, 300)
    ax = plot_information(idata)
    assert sum(len(bars) for bars in ax.containers if hasattr(bars, "patches")) == 3
    assert "(nats)" in ax.get_ylabel()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["active (2)", "unused (1)"]


def test_sentence_holds_the_numbers(moments):
    idata = gaussian(*moments, 300)
    table = latent_information(idata)
    sentence = describe_information(idata)
    assert sentence.startswith("2 of 3 latent dimensions are active.")
    assert f"{table['information'].sum():.1f} nats per row" in sentence
    assert f"z[0] with {table['information'].max():.2f} nats" in sentence


def test_what_cannot_be_measured_is_refused(schools):
    with pytest.raises(DataError, match="2 draws or more, got 1"):
        latent_information(local_posterior(np.zeros((1, 1, 5))))
    with pytest.raises(UnknownNameError, match="no local variable 'y'"):
        latent_information(local_posterior(np.zeros((1, 5, 5))), sites=["y"])
    chain = to_inference_data(Draws({"mu": np.zeros((1, 5))}, {"mu": ()}))
    with pytest.raises(DataError, match="no variable for each row"):
        latent_information(chain)
