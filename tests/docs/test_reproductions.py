"""The scripts of the published experiments, on a handful of made-up images and for one epoch."""

import doctest
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "docs" / "reproductions"
PAGE = ROOT / "docs" / "reproductions.md"
PNG = b"\x89PNG"


def module(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def page():
    yield module("_page")
    del sys.modules["_page"]


@pytest.fixture
def data_dir(tmp_path):
    """MNIST-style IDX files and Frey-style frames, of random pixels."""
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for prefix, rows in (("train", 256), ("t10k", 40)):
        pixels = rng.integers(256, size=(rows, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
        path = tmp_path / "data" / "mnist" / f"{prefix}-images-idx3-ubyte"
        path.write_bytes(header + pixels.tobytes())
    (tmp_path / "data" / "frey_faces").mkdir()
    frames = rng.integers(8, 239, size=(600, 28, 20), dtype=np.uint8)
    np.save(tmp_path / "data" / "frey_faces" / "frey_faces.npy", frames)
    return tmp_path / "data"


def run(script, data_dir, page, epochs):
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), "--data-dir", str(data_dir)]
    options = ["--page", str(page), "--epochs", str(epochs), "--seeds", "2"]
    subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return page.read_text(encoding="utf-8")


def cells(section):
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.parametrize(("script", "dims"), [("aevb_mnist", (3, 5, 10, 20, 200)), ("aevb_frey_faces", (2, 5, 10, 20))])
def test_a_script_writes_its_section_and_picture_and_the_next_run_replaces_them(script, dims, data_dir, tmp_path):
    page, name = tmp_path / "docs" / "reproductions.md", script.replace("_", "-")
    page.parent.mkdir()
    page.write_text("# Reproductions\n\nBy hand, above.\n", encoding="utf-8")
    first = run(script, data_dir, page, epochs=1)
    page.write_text(first + "\nBy hand, below.\n", encoding="utf-8")
    second = run(script, data_dir, page, epochs=2)

    for text in (first, second):
        assert text.startswith("# Reproductions\n\nBy hand, above.\n")
        assert text.count(f"<!-- begin {name} -->") == text.count(f"<!-- end {name} -->") == 1
        assert all(f"test ELBO, N_z = {n}" in text for n in dims)
    assert second.endswith("By hand, below.\n")
    assert "--epochs 1 " in first
    assert "--epochs 1 " not in second
    assert "--epochs 2 " in second
    picture = page.parent / "reproductions" / f"{script}.png"
    assert f"(reproductions/{picture.name})" in second
    assert picture.read_bytes()[:4] == PNG


def test_untrained_networks_on_noise_do_not_reach_the_published_number(data_dir, tmp_path):
    text = run("aevb_mnist", data_dir, tmp_path / "page.md", epochs=1)
    rows = {row[0]: row for row in cells(text)}
    row = rows["test ELBO, N_z = 20"]
    assert float(re.match(r"\S+", row[2]).group().replace("−", "-")) < -500
    assert row[3] == "**missed**"
    assert rows["wake-sleep below AEVB at every N_z"][2:] == ["to come", ""]


def test_sections_stand_side_by_side_and_one_is_replaced_where_it_stands(page, tmp_path):
    path = tmp_path / "page.md"
    for name, text in (("one", "first"), ("two", "second"), ("one", "third")):
        page.write_section(path, name, text)
    text = path.read_text(encoding="utf-8")
    assert "first" not in text
    assert text.index("third") < text.index("<!-- begin two -->") < text.index("second")


def test_examples_of_the_helpers_hold(page):
    results = doctest.testmod(page)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("script", ["aevb_mnist", "aevb_frey_faces"])
def test_the_page_holds_a_complete_section_of_every_script(script):
    text, name = PAGE.read_text(encoding="utf-8"), script.replace("_", "-")
    section = text.partition(f"<!-- begin {name} -->")[2].partition(f"<!-- end {name} -->")[0]
    assert all(len(row) == 4 and row[2] for row in cells(section))
    assert len(cells(section)) > 5
    picture = SCRIPTS / f"{script}.png"
    assert picture.stat().st_size < 150_000
