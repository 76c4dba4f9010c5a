"""The scripts on discrete latents, on a handful of made-up images and for one epoch."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "docs" / "reproductions"
PAGE = ROOT / "docs" / "reproductions.md"
PNG = b"\x89PNG"
MODULES = ("_page", "_gumbel", "_gumbel_cases", "_gumbel_page", "_semi_supervised")
PRESENT = ("score function", "MuProp", "straight-through", "annealed straight-through")
RELAXED = ("Gumbel-Softmax", "straight-through Gumbel-Softmax")


@pytest.fixture
def scripts(monkeypatch):
    """The folder of scripts, from which their modules can be imported."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield SCRIPTS
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def data_dir(tmp_path):
    """MNIST-style IDX files of random pixels, with labels."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for prefix, rows in (("train", 240), ("t10k", 20)):
        pixels = rng.integers(256, size=(rows, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = bytes([0, 0, 8, 1]) + rows.to_bytes(4, "big") + bytes(i % 10 for i in range(rows))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    return tmp_path / "data"


def run(script, data_dir, page, monkeypatch, **changed):
    options = ["--data-dir", str(data_dir), "--page", str(page), "--results", str(page.parent / "kept")]
    monkeypatch.setattr(sys, "argv", [script, *options, "--epochs", "1", "--compile", "off"])
    threads = torch.get_num_threads()
    loaded = runpy.run_path(str(SCRIPTS / f"{script}.py"))
    loaded["main"].__globals__.update(changed)
    loaded["main"]()
    torch.set_num_threads(threads)
    return page.read_text(encoding="utf-8")


def cells(section):
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in rows[2:])}


@pytest.mark.parametrize("script", ["gumbel_vae", "gumbel_structured"])
def test_a_comparison_writes_every_number_of_the_table_and_keeps_its_fits(
    script, data_dir, tmp_path, monkeypatch, scripts
):
    import _gumbel_cases

    for name, fewer in (("LEARNING_RATES", (1e-3,)), ("PARTICLES", 3), ("TRIED_PARTICLES", 2)):
        monkeypatch.setattr(_gumbel_cases, name, fewer)
    page = tmp_path / "docs" / "reproductions.md"
    first = run(script, data_dir, page, monkeypatch)
    rows = cells(first)
    for units in ("Bernoulli", "categorical"):
        assert all("by one draw" in rows[f"{units} units, {name}"][1] for name in (*PRESENT, *RELAXED))
        assert all(rows[f"{units} units, {name}"][2] == "**missed**" for name in (*PRESENT, *RELAXED))
        assert rows[f"{units} units, DARN"][1:] == ["not in the library", ""]
    kept = sorted((page.parent / "kept").glob("*.json"))
    longer = 2 if script == "gumbel_vae" else 0
    assert len(kept) == 2 * len((*PRESENT, *RELAXED)) + longer
    assert (page.parent / "reproductions" / f"{script}.png").read_bytes()[:4] == PNG

    case = json.loads(kept[0].read_text())
    kept[0].write_text(json.dumps(case | {"bounds": [[-1.0, -1.0, -1.0, -1.0]]}))
    again = cells(run(script, data_dir, page, monkeypatch))
    assert again[f"{case['units']} units, {case['estimator']}"][1].startswith("1.0 ± 0.0")
    assert again[f"{case['units']} units, {case['estimator']}"][2] == "reached"


def test_the_semi_supervised_comparison_writes_its_section(data_dir, tmp_path, monkeypatch, scripts):
    page = tmp_path / "docs" / "reproductions.md"
    rows = cells(run("gumbel_semi_supervised", data_dir, page, monkeypatch, CLASSES=(2, 10), WARM=0, ROUNDS=1))
    assert {"ELBO, marginalization", "accuracy in %, Gumbel-Softmax", "step by marginalization, 2 classes"} <= set(rows)
    assert rows["ELBO, straight-through Gumbel-Softmax"][2] == "**missed**"
    assert float(rows["step by marginalization, 10 classes"][1]) > 1


def test_annealed_straight_through_draws_as_the_site_does_with_the_slope_of_a_steeper_one(scripts):
    from _gumbel import Sloped

    logits = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    for discrete, smooth in (
        (dist.Bernoulli(logits=logits), torch.sigmoid),
        (dist.OneHotCategorical(logits=logits), lambda steeper: steeper.softmax(-1)),
    ):
        torch.manual_seed(0)
        draw = Sloped(discrete, torch.tensor(2.0)).rsample()
        torch.manual_seed(0)
        assert torch.equal(draw, discrete.sample())
        weights = torch.tensor([1.0, 2.0, 4.0])
        (gradient,) = torch.autograd.grad((weights * draw).sum(), logits)
        (expected,) = torch.autograd.grad((weights * smooth(2.0 * logits)).sum(), logits)
        torch.testing.assert_close(gradient, expected)


def test_labels_of_labelled_images_and_images_match_and_every_class_is_there_alike(data_dir, monkeypatch, scripts):
    import _semi_supervised

    monkeypatch.setattr(_semi_supervised, "LABELS", 20)
    rows = _semi_supervised.load(data_dir / "mnist", 0)
    assert rows.labels.sum(0).tolist() == [2.0] * 10
    again = _semi_supervised.load(data_dir / "mnist", 1)
    assert not torch.equal(rows.labelled, again.labelled)
    position = (rows.labelled.unsqueeze(1) == rows.unlabelled).all(-1).int().argmax(1)
    assert torch.equal(position % 10, rows.labels.argmax(-1))


@pytest.mark.parametrize("script", ["gumbel_vae", "gumbel_structured", "gumbel_semi_supervised"])
def test_the_page_holds_a_complete_section_of_every_script(script):
    text, name = PAGE.read_text(encoding="utf-8"), script.replace("_", "-")
    section = text.partition(f"<!-- begin {name} -->")[2].partition(f"<!-- end {name} -->")[0]
    assert len(cells(section)) > 10
    assert all(len(row) == 3 and row[1] for row in cells(section).values())
    assert (SCRIPTS / f"{script}.png").stat().st_size < 150_000
