"""The README's code runs as it stands and shows what it says."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = "README.md"
ROOT = Path(__file__).resolve().parents[2]


def test_the_quickstart_has_under_25_lines(python_blocks):
    assert len(python_blocks(PAGE)[0].strip().splitlines()) < 25


def test_every_block_runs_and_shows_what_it_says(run_page, capsys):
    names = run_page(PAGE)
    printed = capsys.readouterr().out
    assert "E_q[log p(x|z)] - linear(0→1 in 200) * KL[q(z|x) || p(z)]" in printed
    assert dict(names["posterior"].posterior["z"].mean(("chain", "draw")).sizes) == {
        "data": 50,
        "z_dim_0": 8,
    }
    assert names["evidence"].shape == (360,)
    assert Path("report", "index.html").is_file()


def rooms():
    """Each row of the table of what there is: a room, and the names that it has now."""
    table = (ROOT / PAGE).read_text().partition("## What there is")[2].partition("## Read on")[0]
    for room, now in re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE):
        yield room, re.findall(r"`(\w+)`", now)


@pytest.mark.parametrize(("room", "names"), [pytest.param(*row, id=row[0]) for row in rooms()])
def test_what_the_table_says_is_there_is_there(room, names):
    module = importlib.import_module(f"ppl_genmodels.{room}")
    assert not [name for name in names if not hasattr(module, name)]


def test_links_and_pictures_are_there():
    text = (ROOT / PAGE).read_text()
    targets = [part.partition(")")[0] for part in text.split("](")[1:]]
    local = [target for target in targets if "://" not in target]
    assert local
    assert not [target for target in local if not (ROOT / target).exists()]
