"""Pages of documentation as programs: their python blocks, run from top to bottom in a new folder."""

import re
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def python_blocks():
    """From a page to its blocks, padded so that line numbers in errors are those of the page."""

    def blocks(page):
        text = (ROOT / page).read_text()
        return ["\n" * text.count("\n", 0, m.start(1)) + m[1] for m in BLOCK.finditer(text)]

    return blocks


@pytest.fixture
def run_page(python_blocks, tmp_path, monkeypatch):
    """Runs a page in a new folder and returns the names that it defined."""
    monkeypatch.chdir(tmp_path)
    pyplot.switch_backend("agg")

    def run(page):
        names = {"__name__": "page"}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for block in python_blocks(page):
                exec(compile(block, page, "exec"), names)
        return names

    yield run
    pyplot.close("all")
