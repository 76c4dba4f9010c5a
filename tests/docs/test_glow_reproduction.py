"""The script of Glow on MNIST, on a handful of made-up images and for one epoch."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions"
SMALL = {"DEPTH": 1, "HIDDEN": 4, "IMAGES": 6, "PARTICLES": 3, "SAMPLES": 3}


@pytest.fixture
def data_dir(tmp_path):
    """MNIST-style IDX files of random pixels."""
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for prefix, rows in (("train", 150), ("t10k", 20)):
        pixels = rng.integers(256, size=(rows, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
        (tmp_path / "data" / "mnist" / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    return tmp_path / "data"


def run(data_dir, page, monkeypatch):
    options = ["--data-dir", str(data_dir), "--page", str(page), "--results", str(page.parent / "kept")]
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["glow_mnist", *options, "--epochs", "1", "--compile", "off"])
    threads = torch.get_num_threads()
    loaded = runpy.run_path(str(SCRIPTS / "glow_mnist.py"))
    loaded["main"].__globals__.update(SMALL)
    loaded["main"]()
    torch.set_num_threads(threads)
    sys.modules.pop("_page", None)
    return page.read_text(encoding="utf-8")


def test_it_writes_bits_and_picture_and_keeps_its_fit(data_dir, tmp_path, monkeypatch):
    """Random pixels have eight bits each, which no density can undercut."""
    page = tmp_path / "docs" / "reproductions.md"
    page.parent.mkdir()
    first = run(data_dir, page, monkeypatch)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in first.splitlines() if line[:2] == "| "]
    bits = float(rows[2][2].partition(" ±")[0])
    assert 7.9 < bits < 9.0
    assert rows[2][3] == "**missed**"
    assert "first 6 test images" in rows[3][0]
    assert (page.parent / "reproductions" / "glow_mnist.png").read_bytes()[:4] == b"\x89PNG"
    kept = page.parent / "kept" / "glow-mnist_1" / "card.json"
    written = kept.stat().st_mtime_ns
    assert run(data_dir, page, monkeypatch) == first
    assert kept.stat().st_mtime_ns == written


def test_the_page_holds_the_section_and_a_small_picture():
    text = (SCRIPTS.parent / "reproductions.md").read_text(encoding="utf-8")
    section = text.partition("<!-- begin glow-mnist -->")[2].partition("<!-- end glow-mnist -->")[0]
    assert "test bits per dimension" in section
    assert (SCRIPTS / "glow_mnist.png").stat().st_size < 150_000
