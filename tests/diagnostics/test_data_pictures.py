"""Samples and reconstructions: images where data are images, features where they are not."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from ppl_genmodels.diagnostics import (
    describe_reconstructions,
    describe_samples,
    plain_figures,
    plot_reconstructions,
    plot_samples,
)
from ppl_genmodels.diagnostics.images import GAP, as_images, event_shape, mosaic
from ppl_genmodels.errors import DataError, UnknownNameError


def test_squares_are_images_and_short_vectors_are_not():
    shapes = {(784,): (28, 28), (36,): (6, 6), (25,): None, (560,): None, (12, 9): (12, 9)}
    shapes |= {(3, 8, 8): (3, 8, 8), (1, 8, 8): (1, 8, 8), (5, 8, 8): None, (): None}
    for shape, expected in shapes.items():
        assert event_shape(np.zeros((2, *shape))) == expected


def test_a_mosaic_holds_each_image_in_its_place():
    images = np.arange(5.0)[:, None, None] * np.ones((5, 3, 4))
    sheet = mosaic(images, columns=2)
    assert sheet.shape == (3 * 4 - 1, 2 * 5 - 1)
    for index in range(5):
        row, column = divmod(index, 2)
        assert (sheet[row * 4 : row * 4 + 3, column * 5 : column * 5 + 4] == index).all()
    assert np.isnan(sheet).sum() == sheet.size - 5 * 12


def test_colour_channels_go_last():
    images = np.random.default_rng(0).random((4, 3, 5, 6))
    assert np.array_equal(as_images(images, (3, 5, 6))[2, :, :, 1], images[2, 1])
    assert as_images(images[:, :1], (1, 5, 6)).shape == (4, 5, 6)


@pytest.mark.parametrize("scale", [1.0, 255.0, 1e-3])
def test_gray_runs_over_the_range_of_the_data(linear, digits, scale):
    rows = digits.data[:20] / 16 * scale
    ax = plot_samples(linear, data=rows, samples=rows)
    pixels = np.asarray(ax.images[0].get_array())
    shown = pixels[..., 0][(pixels[..., 0] == pixels[..., 2]) & (pixels[..., 3] > 0)]
    assert (shown.min(), shown.max()) == (0.0, 1.0)
    assert np.median(shown) == pytest.approx(np.median(rows) / rows.max(), abs=0.01)


def test_reconstructions_stand_under_their_data(linear, digits):
    rows = digits.data[:5] / 16
    ax = plot_reconstructions(linear, rows, n=5)
    sheet = ax.images[0].get_array()[..., 0]
    made = np.asarray(linear.reconstruct(rows)["x"]).reshape(5, 8, 8)
    low, high = np.quantile(rows, [0.001, 0.999])
    for index in range(5):
        columns = slice(9 * index, 9 * index + 8)
        assert np.allclose(sheet[:8, columns], rows[index].reshape(8, 8), atol=0.01)
        scaled = np.clip((made[index] - low) / (high - low), 0, 1)
        assert np.allclose(sheet[9:17, columns], scaled, atol=1e-5)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["data", "model"]


def test_gaps_and_missing_pixels_have_a_colour_of_their_own(linear, digits, monkeypatch):
    rows = digits.data[:3] / 16
    rows[:, 8:16] = np.nan
    monkeypatch.setattr(linear, "posterior_mean", lambda data: np.zeros((len(data), 8)))
    sheet = np.asarray(plot_reconstructions(linear, rows).images[0].get_array())
    assert np.allclose(sheet[1, :8, :3], GAP)
    assert np.allclose(sheet[:, 8, :3], GAP)
    assert (sheet[0, :8, 0] == sheet[0, :8, 2]).all()


def test_places_without_an_image_are_empty(linear):
    sheet = np.asarray(plot_samples(linear, 7).images[0].get_array())
    columns = (sheet.shape[1] + 1) // 9
    unused = columns - 7 % columns
    assert (sheet[..., 3] == 0).sum() == 8 * 9 * unused


@pytest.mark.parametrize("features", [1, 2, 5, 60])
def test_features_are_drawn_beside_those_of_the_data(make_linear, features):
    rows = np.random.default_rng(0).normal(size=(200, features)) * np.arange(1, features + 1)
    fitted = make_linear(rows, 1)
    ax = plot_samples(fitted, 50, data=rows)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["data", "samples"]
    assert ax.get_xlabel()
    assert plot_reconstructions(fitted, rows).get_ylabel() == "reconstructed value"


def test_image_shape_can_be_told_and_must_fit(linear, digits):
    ax = plot_samples(linear, 4, image_shape=(4, 16))
    assert ax.images[0].get_array().shape[:2] == (4, 4 * 17 - 1)
    with pytest.raises(DataError, match=r"image_shape \(9, 9\) has 81 values, the rows have 64"):
        plot_samples(linear, 4, image_shape=(9, 9))


def test_a_program_can_say_the_shape_of_its_images(linear):
    linear.program = type("Program", (), {"image_shape": (16, 4)})()
    assert plot_samples(linear, 1).images[0].get_array().shape[:2] == (16, 4)


def test_unknown_site_is_refused(linear):
    with pytest.raises(UnknownNameError, match="no observed site 'y'"):
        plot_samples(linear, site="y")


def test_sentences_hold_the_numbers(linear, digits):
    rows = digits.data / 16
    samples = np.asarray(linear.sample(512, seed=0)["x"])
    sentence = describe_samples(samples, rows)
    assert f"mean {samples.mean():.3g} and standard deviation {samples.std():.3g}" in sentence
    assert f"(data {rows.mean():.3g} and {rows.std():.3g})" in sentence
    made = np.asarray(linear.reconstruct(rows)["x"])
    explained = 1 - ((rows - made) ** 2).sum() / ((rows - rows.mean(0)) ** 2).sum()
    assert f"{100 * explained:.0f} % of the variance" in describe_reconstructions(rows, made)


def test_identical_samples_lie_nowhere_apart():
    collapsed = np.tile(np.arange(4.0), (10, 1))
    assert "lie 0.00 apart" in describe_samples(collapsed)


def test_reconstructions_worse_than_the_mean_are_called_so():
    seen = np.arange(6.0).reshape(6, 1)
    assert "the data's mean alone would come as near" in describe_reconstructions(seen, -seen)


def test_missing_values_do_not_count():
    seen = np.array([[1.0, np.nan], [3.0, 2.0]])
    assert "error is 1;" in describe_reconstructions(seen, seen + 1)


def test_figures_are_pyplots_unless_plain(linear):
    plot_samples(linear, 4)
    assert len(pyplot.get_fignums()) == 1
    with plain_figures():
        ax = plot_samples(linear, 4)
    assert len(pyplot.get_fignums()) == 1
    assert isinstance(ax.figure, Figure)


def test_matplotlibs_settings_stay(linear):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_samples(linear, 4)
    assert dict(matplotlib.rcParams) == before
