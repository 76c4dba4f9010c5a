"""The script of certified digits, for one pass over few of them."""

import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "reproductions"


def test_the_script_writes_its_section(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    try:
        script = runpy.run_path(str(SCRIPTS / "certified_digits.py"))
    finally:
        sys.modules.pop("_page", None)
    names = script["main"].__globals__
    names.update(FITS={key: names["FITS"][key] for key in ("log-likelihood", "margin for 0.2")})
    names.update(TRAINING=1700, TRIES=100, STEPS=3)
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["script", "--data-dir", str(tmp_path), "--epochs", "1", "--page", str(page)])
    names["main"]()
    text = page.read_text()
    assert "| adversarial examples in certified balls, 194 descents | asked: 0 | 0 | reached |" in text
    assert (tmp_path / "reproductions" / "certified_digits.png").exists()
    assert "margin for 0.2" in capsys.readouterr().out
