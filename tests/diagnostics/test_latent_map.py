"""The latent map: which dimensions it shows, colours and legends, one dimension, discrete latents."""

import numpy as np
import pytest

from ppl_genmodels.diagnostics import describe_latent_map, plot_latent_map, to_inference_data
from ppl_genmodels.diagnostics.labels import as_categories
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference.draws import Draws

ROWS = 120


def posterior(*shape, means=0.0, seed=0):
    noise = np.random.default_rng(seed).normal(size=(1, 20, ROWS, *shape))
    return from_draws(means + 0.1 * noise)


def from_draws(z):
    dims = ("data", "z_dim_0")[: z.ndim - 2]
    return to_inference_data(Draws({"z": z}, {"z": dims}, attrs={"data_plate": "data"}))


@pytest.fixture
def clusters():
    """Three groups apart in dimensions 1 and 3 of five."""
    group = np.arange(ROWS) % 3
    means = np.zeros((ROWS, 5))
    means[:, 1], means[:, 3] = 3.0 * group, 2.0 * (group == 1)
    return posterior(5, means=means), group


def test_the_two_most_informative_dimensions_are_shown(clusters):
    idata, group = clusters
    ax = plot_latent_map(idata, group)
    assert ax.get_xlabel() == "posterior mean of z[1]"
    assert ax.get_ylabel() == "posterior mean of z[3]"


def test_each_label_has_its_colour_and_its_rows(clusters):
    idata, group = clusters
    ax = plot_latent_map(idata, np.array(["a", "b", "c"])[group])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]
    colours = {tuple(points.get_facecolor()[0, :3]) for points in ax.collections}
    assert len(colours) == 3
    means = idata.posterior["z"].mean(("chain", "draw")).values
    assert np.allclose(ax.collections[1].get_offsets(), means[group == 1][:, [1, 3]])


def test_neighbours_tell_labels_that_cluster(clusters):
    idata, group = clusters
    assert "give 100 % of the rows their right label" in describe_latent_map(idata, group)
    shuffled = np.random.default_rng(0).permutation(group)
    share = int(describe_latent_map(idata, shuffled).split(" give ")[1].split(" %")[0])
    assert abs(share - 33) < 3 * 100 * np.sqrt(2 / 9 / ROWS) + 5


def test_without_labels_the_widest_dimension_is_named(clusters):
    idata, _ = clusters
    spread = idata.posterior["z"].mean(("chain", "draw")).values[:, 1].std()
    sentence = describe_latent_map(idata)
    assert f"along z[1], with a standard deviation of {spread:.2f}" in sentence
    assert plot_latent_map(idata).get_legend() is None


def test_a_scale_of_labels_gets_a_colour_bar(clusters):
    ax = plot_latent_map(clusters[0], np.linspace(0, 1, ROWS))
    assert [each.get_ylabel() for each in ax.figure.axes if each is not ax] == ["label"]


def test_one_dimension_is_a_histogram_of_all_rows():
    idata = posterior(means=np.linspace(-2, 2, ROWS))
    ax = plot_latent_map(idata, np.arange(ROWS) % 2)
    assert sum(bar.get_height() for bar in ax.containers[-1]) <= ROWS
    tops = [bar.get_y() + bar.get_height() for bar in ax.containers[-1]]
    assert sum(tops) == ROWS
    assert ax.get_xlabel() == "posterior mean of z"


@pytest.mark.parametrize("one_hot", [False, True])
def test_discrete_latents_are_counted(one_hot):
    category = np.arange(ROWS) % 4
    z = np.tile(category, (1, 20, 1))
    z = np.eye(4)[z] if one_hot else z
    ax = plot_latent_map(from_draws(z), category // 2)
    tops = [bar.get_y() + bar.get_height() for bar in ax.containers[-1]]
    assert tops == [30, 30, 30, 30]
    assert describe_latent_map(from_draws(z)).startswith("4 of 4 sampled categories")


def test_many_categories_share_one_name():
    labels = np.repeat(np.arange(15).astype(str), np.arange(15) + 1)
    categories = as_categories(labels, len(labels))
    assert len(categories.names) == 10
    assert categories.names[-1] == "other"
    assert (categories.codes == 9).sum() == sum(range(1, 7))


def test_many_rows_are_thinned_and_single_labels_survive():
    idata = from_draws(np.random.default_rng(0).normal(size=(1, 3, 5000, 2)))
    assert sum(len(points.get_offsets()) for points in plot_latent_map(idata).collections) <= 2000
    sentence = describe_latent_map(idata, ["only"] * 5000)
    assert sentence.startswith("Too few rows of some label")


def test_constant_means_are_drawn():
    z = np.zeros((1, 4, ROWS, 3)) + 0.5
    assert plot_latent_map(from_draws(z)).get_title().startswith("Latent map")


@pytest.mark.parametrize("labels", [["a", "b"], np.zeros((ROWS, 2))])
def test_labels_must_be_one_per_row(clusters, labels):
    with pytest.raises(DataError, match=f"labels: {ROWS} rows need a label each"):
        plot_latent_map(clusters[0], labels)


def test_a_posterior_without_local_latents_is_refused(schools):
    chain = to_inference_data(Draws({"mu": np.zeros((1, 5))}, {"mu": ()}))
    with pytest.raises(DataError, match="no variable for each row"):
        plot_latent_map(chain)
