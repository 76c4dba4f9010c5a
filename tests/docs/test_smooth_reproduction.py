"""The script of the three conditions: one game as it is played, and the section made of courses that are known."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions"


@pytest.fixture
def script(monkeypatch):
    """What the script defines."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    yield runpy.run_path(str(SCRIPTS / "smooth_gan.py"))
    torch.set_num_threads(threads)
    sys.modules.pop("_page", None)


def test_distances_are_those_of_the_two_aims(script):
    assert script["Particle"]().distance() == 3.0
    normal = script["Normal"]()
    with torch.no_grad():
        normal.loc.copy_(torch.tensor([3.0, 4.0]))
        normal.scale.copy_(torch.tensor([1.0, -1.0]))
    assert normal.distance() == pytest.approx(5.0)


def test_a_critic_has_what_is_asked_of_it(script):
    plain, smooth = script["critic"](2, False, False), script["critic"](2, True, True)
    assert [type(layer) for layer in plain.layers[1::2]] == [nn.ReLU, nn.ReLU]
    assert [type(layer) for layer in smooth.layers[1::2]] == [nn.ELU, nn.ELU]
    assert all(hasattr(layer, "parametrizations") for layer in smooth.layers[::2])
    assert not any(hasattr(layer, "parametrizations") for layer in plain.layers[::2])


def test_a_game_with_all_three_conditions_comes_nearer(script):
    script["course"].__globals__["STEPS"] = 10
    distances = script["course"](script["toys"]()["one particle"], (True, True, True), 0)
    assert len(distances) == 10
    assert distances[-1] < distances[0] < 3.0


def test_the_section_says_which_games_settled(script, tmp_path, monkeypatch):
    def course(toy, conditions, seed):
        return torch.full((100,), 0.01 if conditions == (True, True, True) else 0.5 if conditions[0] else 1e4)

    page = tmp_path / "docs" / "reproductions.md"
    page.parent.mkdir()
    monkeypatch.setattr(sys, "argv", ["smooth_gan", "--data-dir", str(tmp_path), "--page", str(page)])
    script["main"].__globals__["course"] = course
    script["main"]()
    text = page.read_text(encoding="utf-8")
    assert "| settles with all three | yes (theorem) | one particle: yes, normal: yes | reached |" in text
    assert "| fails to settle without (D3) | no guarantee | 8 of 8 games |  |" in text
    assert "| ✓ | ✓ | ✓ | settles | **0.01** | **0.01** |" in text
    assert text.count("| diverges | diverges |") == 4
    assert text.count("| 0.5 | 0.5 |") == 3
    assert (page.parent / "reproductions" / "smooth_gan.png").read_bytes()[:4] == b"\x89PNG"
