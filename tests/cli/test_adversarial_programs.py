"""Programs that are fitted against a critic, from the command line."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def game(ppl, tmp_path_factory):
    """A fitted GAN and its data."""
    folder = tmp_path_factory.mktemp("game")
    data = folder / "rows.npz"
    generator = np.random.default_rng(0)
    np.savez(data, x=generator.normal(size=(60, 3)).astype("float32"))
    ppl("fit", "gan", "--data", data, "--set", "hidden=(8,)", "--steps", 3, "--out", folder / "run", "--quiet")
    return folder / "run", data


def test_show_names_the_game(ppl):
    shown = ppl("show", "gan", "--set", "event_shape=(3,)").output
    assert "deterministic" in shown
    assert "default objective: - D[data(x) || model(x)]" in shown


def test_a_run_is_sampled_reported_and_gone_on_with(ppl, game, tmp_path):
    run, data = game
    ppl("sample", run, "-n", 5, "--out", tmp_path / "samples.npz")
    assert np.load(tmp_path / "samples.npz")["x"].shape == (5, 3)
    ppl("report", run, "--data", data, "--out", tmp_path / "report")
    assert (tmp_path / "report" / "samples_and_data.png").exists()
    options = ("--set", "hidden=(8,)", "--steps", 5, "--out", run, "--quiet", "--resume")
    assert "5 (after its last step)" in ppl("fit", "gan", "--data", data, *options).output


def test_inference_without_a_guide_is_one_line_of_error(ppl, game, tmp_path):
    run, data = game
    ppl("infer", run, "--data", data, "--out", tmp_path / "posterior.nc", code=2)
