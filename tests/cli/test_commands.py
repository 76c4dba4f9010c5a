"""The commands on the way from data to a posterior, and what they write."""

import json

import arviz as az
import numpy as np
import pytest

from ppl_genmodels import load
from ppl_genmodels.models import catalogue

COMMANDS = ["fit", "infer", "sample", "report", "models", "show"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_a_description_and_an_example(ppl, command):
    text = ppl(command, "--help").stdout
    described = text.split("Usage")[1].split("─")[0].strip().splitlines()
    assert len([line for line in described if line.strip()]) >= 3
    assert f"Example: ppl-genmodels {command}" in text


def test_the_commands_are_those_of_the_design_in_the_order_of_use(ppl):
    text = ppl("--help").stdout
    places = [text.index(f"│ {command} ") for command in COMMANDS]
    assert places == sorted(places)


def test_without_a_command_the_help_is_shown(ppl):
    from typer.testing import CliRunner

    from ppl_genmodels.cli import app

    result = CliRunner().invoke(app, [])
    assert "Usage: " in result.output
    assert result.exit_code == 2


def test_version_is_that_of_the_package(ppl):
    import ppl_genmodels

    assert ppl("--version").stdout.strip() == ppl_genmodels.__version__


def test_models_lists_the_catalogue_one_line_each(ppl):
    lines = ppl("models").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue.names())
    assert all(catalogue.summary(line.split()[0]) in line for line in lines)


def test_show_finds_what_is_observed_without_data(ppl):
    text = ppl("show", "vae", "--set", "latent_dim=3", "--set", "data_dim=6").stdout
    table = {
        cells[1]: cells[2:]
        for cells in (line.split() for line in text.replace("│", " | ").splitlines())
        if cells[:1] == ["|"]
    }
    assert table["z"][1] == "latent"
    assert table["x"][1] == "observed"
    assert "default objective: E_q[log p(x|z)] - KL[q(z|x) || p(z)]" in text


def test_show_reads_options_off_the_data_and_draws_the_graph(ppl, rows, tmp_path):
    text = ppl("show", "vae", "--data", rows, "--set", "latent_dim=3", "--graph", tmp_path / "deep" / "g.svg").stdout
    assert "data (40)" in text
    assert "Normal" in text
    assert (tmp_path / "deep" / "g.svg").read_text().startswith("<svg")


def test_show_serves_a_model_without_a_guide(ppl):
    assert "schools (8)" in ppl("show", "eight_schools").stdout


def test_fit_writes_a_run_that_the_library_loads(run):
    fitted = load(run)
    assert fitted.program.options["data_dim"] == 6
    assert fitted.program.options["hidden"] == (8,)
    assert list(fitted.history["step"]) == [1, 2, 3, 4]


def test_fit_passes_its_options_on(ppl, rows, tmp_path):
    chosen = ["--steps", 3, "--batch-size", 16, "--objective", "iwae", "--num-particles", 5, "--seed", 7]
    watched = ["--validation", 0.25, "--lr", 0.01, "--set", "latent_dim=2", "-q"]
    ppl("fit", "vae", "--data", rows, "--out", tmp_path / "run", *chosen, *watched)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["settings"]["steps"] == 3
    assert card["settings"]["batch_size"] == 16
    assert card["settings"]["num_particles"] == 5
    assert card["settings"]["seed"] == 7
    assert card["data"]["rows"] == 30
    assert "log mean_k" in card["objective"]


def test_resume_goes_on_to_the_same_history_as_a_run_that_never_stopped(ppl, rows, run, tmp_path):
    small = ["fit", "vae", "--data", rows, "--out", tmp_path / "run", "--set", "latent_dim=2", "--set", "hidden=[8]"]
    small += ["--batch-size", 20, "--quiet"]
    ppl(*small, "--epochs", 1)
    ppl(*small, "--epochs", 2, "--resume")
    resumed, straight = load(tmp_path / "run").history, load(run).history
    assert list(resumed["step"]) == list(straight["step"])
    assert np.array_equal(resumed["objective"], straight["objective"])


def test_infer_writes_a_posterior_for_any_number_of_rows(ppl, run, rows, tmp_path):
    np.save(tmp_path / "new.npy", np.load(rows)[:7])
    out = tmp_path / "deep" / "post.nc"
    ppl("infer", run, "--data", tmp_path / "new.npy", "--out", out, "--num-samples", 11, "--predictive", "-q")
    posterior = az.from_netcdf(out)
    assert dict(posterior.posterior["z"].sizes) == {"chain": 1, "draw": 11, "data": 7, "z_dim_0": 2}
    assert posterior.posterior_predictive["x"].shape == (1, 11, 7, 6)


def test_infer_repeats_under_one_seed_only(ppl, run, rows, tmp_path):
    draws = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ppl("infer", run, "--data", rows, "--out", tmp_path / name, "--num-samples", 3, "--seed", seed, "-q")
        draws.append(az.from_netcdf(tmp_path / name).posterior["z"].values)
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_sample_writes_every_site(ppl, run, tmp_path):
    text = ppl("sample", run, "-n", 5, "--out", tmp_path / "samples.npz").stdout
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as samples:
        assert samples["x"].shape == (5, 6)
        assert samples["z"].shape == (5, 2)
        assert len(np.unique(samples["z"], axis=0)) == 5
    assert "samples.npz" in text


def test_report_writes_a_page_and_says_where(ppl, run, rows, tmp_path):
    text = ppl("report", run, "--data", rows, "--out", tmp_path / "report").stdout
    page = tmp_path / "report" / "index.html"
    assert str(page) in text.replace("\n", "")
    assert page.read_text().lstrip().lower().startswith("<!doctype html")


def test_digits_and_pixel_options_reach_the_model(ppl, tmp_path):
    pixels = ["--data", "digits", "--binarize", "sample"]
    chosen = ["--images", "--set", "latent_dim=2", "--set", "channels=[4]", "--steps", 1, "-q"]
    ppl("fit", "conv_vae", *pixels, *chosen, "--out", tmp_path / "run")
    options = load(tmp_path / "run").program.options
    assert options["image_shape"] == (1, 8, 8)
    assert options["likelihood"] == "bernoulli"


def test_a_model_without_a_guide_gets_an_autoguide_and_comes_back_with_it(ppl, tmp_path):
    np.savez(tmp_path / "schools.npz", y=np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), sigma=np.full(8, 12.0))
    schools = ["--data", tmp_path / "schools.npz", "-q"]
    ppl("fit", "eight_schools", *schools, "--guide", "AutoNormal", "--steps", 2, "--out", tmp_path / "run")
    ppl("infer", tmp_path / "run", *schools, "--num-samples", 4, "--out", tmp_path / "post.nc")
    assert az.from_netcdf(tmp_path / "post.nc").posterior["theta"].shape == (1, 4, 8)
