"""The script of Gaussian data under a diffusion, small, and what it takes as exact."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions"
SMALL = {
    "DIMS": (2,),
    "CHAINS": (3, 6),
    "PATHS": (100, 1000),
    "SAMPLERS": {"ancestral": 30, "ddim": 30},
    "PRICED": 3,
    "WALKED": 40,
    "DRAWN": 50,
    "TRAINING_STEPS": 3,
    "WIDTH": 8,
    "BOUNDS": 2,
}


@pytest.fixture
def script(monkeypatch):
    """What the script defines."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    yield runpy.run_path(str(SCRIPTS / "diffusion_gaussian.py"))
    torch.set_num_threads(threads)
    for name in ("_page", "_gaussian"):
        sys.modules.pop(name, None)


def test_it_writes_its_tables_and_its_picture(script, tmp_path, monkeypatch):
    page = tmp_path / "docs" / "reproductions.md"
    page.parent.mkdir()
    monkeypatch.setattr(sys, "argv", ["diffusion_gaussian", "--data-dir", str(tmp_path), "--page", str(page)])
    script["main"].__globals__.update(SMALL)
    script["main"]()
    text = page.read_text(encoding="utf-8")
    assert text.count("| asked: ") == text.count("**missed**") + text.count("| reached |") == 6
    assert "nan" not in text
    assert (page.parent / "reproductions" / "diffusion_gaussian.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("noising", ["LinearNoising", "VarianceExploding"])
def test_the_expected_gap_is_that_of_the_chains_walks_and_falls_to_what_the_ends_leave(script, noising):
    torch.manual_seed(0)
    script["chain_gap"].__globals__["WALKED"] = 4000
    denoiser = script["GaussianDenoiser"](script["gaussian"](3), script[noising]().double())
    found = script["chain_gap"](denoiser, 20)
    assert found.mean().item() == pytest.approx(denoiser.gap(20), abs=4 * found.std().item() / 4000**0.5)
    assert 0 < denoiser.gap(100_000) < 0.02
