"""The script of the swiss roll and the heartbeats, for a few updates, and the roll's density."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions"
HELPERS = ("_page", "_roll", "_nonequilibrium_pictures")
SMALL = {
    "ROLL_UPDATES": 2,
    "ROLL_BATCH": 32,
    "TEST": 50,
    "BEAT_STEPS": 10,
    "BEAT_UPDATES": 2,
    "BEAT_BATCH": 32,
    "ROLL_DRAWS": 2,
    "BEAT_DRAWS": 2,
    "COPIES": 20,
    "DRAWN": 40,
    "PARTICLES": 10,
}


@pytest.fixture
def script(monkeypatch):
    """What the script defines."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    yield runpy.run_path(str(SCRIPTS / "nonequilibrium.py"))
    torch.set_num_threads(threads)
    for name in HELPERS:
        sys.modules.pop(name, None)


def test_it_writes_its_table_and_pictures_and_misses_what_it_misses(script, tmp_path, monkeypatch):
    page = tmp_path / "docs" / "reproductions.md"
    page.parent.mkdir()
    options = ["--data-dir", str(tmp_path), "--page", str(page), "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["nonequilibrium", *options])
    script["main"].__globals__.update(SMALL)
    script["main"]()
    text = page.read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "][2:]
    assert [row[3] for row in rows[:2] + rows[4:6]] == ["**missed**"] * 4
    assert all(len(row) == 4 and row[2] for row in rows)
    for picture in ("roll", "beats"):
        assert (page.parent / "reproductions" / f"nonequilibrium_{picture}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_rolls_density_is_that_of_its_draws(script):
    roll = type(script["ROLL"])(noise=1.0)
    side = torch.linspace(-3, 3, 37, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    density = roll.log_prob(grid).exp() * (side[1] - side[0]) ** 2
    assert density.sum().item() == pytest.approx(1.0, abs=1e-4)
    drawn = roll.sample(20_000, seed=0).double()
    for power in (1, 2, 4):
        moments = drawn**power
        error = moments.std(0) / len(drawn) ** 0.5
        assert ((moments.mean(0) - density @ grid**power).abs() < 4.5 * error).all()
    assert (density @ grid**2).mean().item() == pytest.approx(1.0, abs=1e-3)


def test_the_exact_denoiser_knows_the_heartbeats(script):
    """Half of the bits kept and no doubt left about a heartbeat whose every bit agrees; at time 1 nothing is known."""
    beats, denoiser = script["BEATS"], script["ExactDenoiser"](0.2)
    seen = denoiser(beats, torch.tensor(0.5)).sigmoid()
    assert (seen.round() == beats).all()
    torch.testing.assert_close(denoiser(beats, torch.tensor(1.0)).sigmoid(), torch.full_like(beats, 0.2))


def test_the_page_holds_the_section_and_small_pictures():
    text = (SCRIPTS.parent / "reproductions.md").read_text(encoding="utf-8")
    section = text.partition("<!-- begin nonequilibrium -->")[2].partition("<!-- end nonequilibrium -->")[0]
    assert "heartbeat: K, bits per sequence" in section
    assert all((SCRIPTS / f"nonequilibrium_{name}.png").stat().st_size < 150_000 for name in ("roll", "beats"))
