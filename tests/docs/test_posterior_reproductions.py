"""The scripts of posteriors under diffusions, small, and the mixtures that one of them measures by."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions"
SMALL = {
    "diffusion_posterior": {"DRAWS": 40, "RUNS": 4, "STEPS": 3, "GIVEN": 512},
    "inpainting_digits": {
        "HELD": 60,
        "STEPS": 3,
        "PARTICLES": 3,
        "WIDTH": 8,
        "BLOCKS": 1,
        "HIDDEN": (16,),
        "VAE_EPOCHS": 1,
    },
}
ASKED = {"diffusion_posterior": 4, "inpainting_digits": 8}
"""Rows with a verdict."""


@pytest.fixture
def load(monkeypatch):
    """From the name of a script to what it defines."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    yield lambda name: runpy.run_path(str(SCRIPTS / f"{name}.py"))
    torch.set_num_threads(threads)
    for name in ("_page", "_mixtures"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore:diffusion_posterior.*particles of site")
@pytest.mark.parametrize("name", SMALL)
def test_it_writes_its_tables_and_its_picture(name, load, tmp_path, monkeypatch):
    page = tmp_path / "docs" / "reproductions.md"
    page.parent.mkdir()
    monkeypatch.setattr(sys, "argv", [name, "--data-dir", str(tmp_path), "--page", str(page), "--epochs", "1"])
    script = load(name)
    script["main"].__globals__.update(SMALL[name])
    script["main"]()
    text = page.read_text(encoding="utf-8")
    assert text.count("| asked: ") == text.count("**missed**") + text.count("| reached |") == ASKED[name]
    assert "nan" not in text
    assert (page.parent / "reproductions" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_posterior_of_a_mixture_is_the_prior_weighed_by_the_likelihood(load):
    script = load("diffusion_posterior")
    for case in (script["plane"](), script["space"]()):
        posterior, evidence = case.measurement.posterior(case.prior)
        torch.manual_seed(0)
        x = case.prior.distribution().sample((50,))
        joint = case.prior.distribution().log_prob(x) + case.measurement.log_likelihood(x)
        torch.testing.assert_close(posterior.distribution().log_prob(x) + evidence, joint)


def test_the_mixtures_denoiser_has_the_score_of_the_noisy_mixture(load):
    script = load("diffusion_posterior")
    case, time = script["plane"](), torch.tensor(0.3, dtype=torch.float64)
    denoiser = script["MixtureDenoiser"](case.prior, script["CosineNoising"]())
    alpha, sigma = denoiser.noising.alpha(time), denoiser.noising.sigma(time)
    spread = alpha**2 * case.prior.covariances + sigma**2 * torch.eye(2, dtype=torch.float64)
    noisy = type(case.prior)(case.prior.weights, alpha * case.prior.means, spread).distribution()
    value = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (score,) = torch.autograd.grad(noisy.log_prob(value).sum(), value)
    torch.testing.assert_close(denoiser(value, time).score, score)


@pytest.mark.parametrize("name", SMALL)
def test_the_page_holds_the_section_and_a_small_picture(name):
    text = (SCRIPTS.parent / "reproductions.md").read_text(encoding="utf-8")
    section = text.partition(f"<!-- begin {name.replace('_', '-')} -->")[2]
    assert "| reached |" in section.partition("<!-- end")[0]
    assert (SCRIPTS / f"{name}.png").stat().st_size < 200_000
