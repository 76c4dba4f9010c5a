"""The pages of the guide run as they stand and show what they say."""

import pytest
import torch


def test_the_page_on_writing_programs(run_page, capsys):
    run_page("docs/guide/write.md")
    printed = capsys.readouterr().out
    assert "data ['cluster', 'spread']" in printed
    assert "It samples 'sprad': is that the same site? Remedy: add pyro.sample(" in printed
    assert "'eight_schools'" in printed


def test_the_page_on_fitting_and_inferring(run_page, capsys):
    names = run_page("docs/guide/fit_and_infer.md")
    printed = capsys.readouterr().out
    assert "linear(0→1 in 200) * KL" in printed
    assert "'kl': torch.Size([128])" in printed
    assert "> log_likelihood" in printed
    assert names["samples"].shape == (16, 64)
    assert names["means"].shape == (360, 64)
    weights = names["again"].program.state_dict()
    for name, value in names["fitted"].program.state_dict().items():
        assert torch.equal(value, weights[name])


def test_the_page_on_inspecting(run_page, capsys):
    names = run_page("docs/guide/inspect.md")
    printed = capsys.readouterr().out
    assert "k-hat is below 0.7 for" in printed
    assert "'z_dim_0': 8" in printed
    assert "held-out evidence" in printed
    assert "A classifier tells 360 and 360 rows apart" in printed
    assert "The samples are no nearer than new data" in printed
    assert names["page"].is_file()


def test_the_page_on_gradients(run_page, capsys):
    names = run_page("docs/guide/gradients.md")
    printed = capsys.readouterr().out
    assert "label by ReparameterizeAndMarginalize" in printed
    assert "label by GumbelSoftmax (biased)" in printed
    assert names["found"].references == {"label": "enumeration"}
    assert names["found"].recommendation in printed
    assert "cold" in printed


def test_the_page_on_diffusion_and_energies(run_page, capsys):
    names = run_page("docs/guide/diffusion.md")
    assert names["drawn"].shape == (500, 2)
    assert names["log_density"].isfinite().all()
    assert names["upper"].mean(0)[1] > 0.3
    assert names["found"].samples[:, :, 0].mean(0).tolist() == pytest.approx([0.0, 1.5], abs=0.2)
    printed = capsys.readouterr().out
    assert "A classifier tells" in printed
    assert "bits per dimension" in printed
    assert "log Z =" in printed


def test_the_page_on_flows(run_page, capsys):
    names = run_page("docs/guide/flows.md")
    assert names["log_density"].shape == (1000,)
    assert names["drawn"].shape == (500, 2)
    assert names["cool"].shape == (16, 1, 8, 8)
    assert names["matched"].history["objective"].iloc[-20:].mean() > names["matched"].history["objective"].iloc[0]
    printed = capsys.readouterr().out
    assert "k-hat" in printed
    assert "bits per dimension" in printed


def test_the_page_on_games(run_page, capsys):
    names = run_page("docs/guide/games.md")
    assert names["fitted"].history["game[x] modes"].dropna().iloc[-1] == 8
    told = names["divergence"].log_ratio(names["teller"](names["point"])).detach()
    assert torch.allclose(told, names["exact"], atol=0.2)
    printed = capsys.readouterr().out
    assert "No failure was found" in printed
    assert "- D[data(x,z) || model(x,z)]" in printed
    assert "of 8 modes are covered" in printed
