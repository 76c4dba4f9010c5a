"""The script of characters, on a short made-up text and for a few steps."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions"
SENTENCE = "The quick brown fox jumps over the lazy dog.\n"


@pytest.fixture
def script(monkeypatch):
    """What the script defines, with small networks."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    found = runpy.run_path(str(SCRIPTS / "character_gan.py"))
    found["main"].__globals__.update(SIZES={"latent_dim": 2, "width": 4, "blocks": 1, "kernel": 3}, CRITIC_STEPS=1)
    yield found
    torch.set_num_threads(threads)
    for name in ("_page", "_characters"):
        sys.modules.pop(name, None)


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text(SENTENCE * 60, encoding="utf-8")
    return tmp_path


def test_the_page_is_made_once_both_fits_are_there(script, data_dir, monkeypatch):
    page = data_dir / "page.md"
    given = ["script", "--data-dir", str(data_dir), "--page", str(page), "--results", str(data_dir / "kept")]
    given += ["--steps", "3", "--compile", "off"]
    for only in ("softmax", "gumbel"):
        assert not page.exists()
        monkeypatch.setattr(sys, "argv", [*given, "--only", only])
        script["main"]()
    text = page.read_text(encoding="utf-8")
    assert "--steps 3 " in text
    assert text.count("asked: all four fall over training |") == 2
    assert (data_dir / "reproductions" / "character_gan.png").read_bytes()[:4] == b"\x89PNG"
    kept = json.loads((data_dir / "kept" / "gumbel.json").read_text(encoding="utf-8"))
    assert kept["steps"] == [0, 3]
    assert kept["samples"][0] in text
    assert len(kept["samples"]) == 12


@pytest.mark.parametrize(("last", "verdict"), [(0.35, "reached"), (0.55, "**missed**")])
def test_the_verdict_is_that_on_all_four_lengths(script, last, verdict):
    course = script["Course"]([0, 20, 100], [[0.5] * 4, [0.3] * 4, [0.1, 0.1, 0.1, last]], ["a"], 1.0)
    _, early, end, *_ = script["rows_of"]({"softmax": course}, {order: [0.0] * 4 for order in range(4)}, [0.0] * 4)
    assert early.here == "0.300, 0.300, 0.300, 0.300; later lower for 1-grams, 2-grams, 3-grams"
    assert str(end).endswith(f"| {verdict} |")


def test_a_markov_chain_has_only_ngrams_of_the_text(script, data_dir):
    text = script["Text"].read(data_dir / "tinyshakespeare" / "input.txt")
    known = "".join(text.alphabet[each] for each in text.characters.tolist())
    for order in (1, 3):
        rows = script["spelled"](script["chain_rows"](text, order), text)
        grams = {row[i : i + order + 1].replace("⏎", "\n") for row in rows for i in range(len(row) - order)}
        assert all(gram in known + known[:order] for gram in grams)
