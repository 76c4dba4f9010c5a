"""What a run leaves in a folder: every result as JSON, the tables as Markdown, the pictures.

Convention of this module: a table's file ends with the line of the machine that its part was measured on; a part that
is measured again replaces the one in the folder, the others stay. The pages of the documentation include these files as
they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import picture, table, targets

__all__ = ["printed", "write", "written"]

TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "steps": ("steps", table.steps),
    "products": ("products", table.products),
    "start_up": ("alone", table.start_up),
    "memory": ("alone", table.memory),
    "short_fits": ("short_fits", table.short_fits),
    "growth": ("growth", table.growth),
    "estimators": ("estimators", table.estimators),
    "flows": ("flows", table.flows),
    "denoisers": ("denoisers", table.denoisers),
    "games": ("games", table.games),
}
"""File name, the results it shows, and how."""

PICTURES: dict[str, Callable[[Any, Path], None]] = {"steps": picture.draw_steps, "growth": picture.draw_growth}


def printed(results: dict[str, Any]) -> dict[str, str]:
    """The tables of what was measured, by file name.

    Example:
        >>> sorted(printed({"products": {"torch, float32": [1.0]}}))
        ['products', 'targets']
    """
    found = {name: show(results[part]) for name, (part, show) in TABLES.items() if part in results}
    return found | {"targets": targets.verdicts(results)}


def written(results: dict[str, Any]) -> dict[str, str]:
    """The texts of the tables' files, by file name."""
    machine = results["machine"]
    lines = {name: machine[part] for name, (part, _) in TABLES.items() if part in machine}
    return {
        name: f"{text}\n\n*{lines[name]}*\n" if name in lines else text + "\n"
        for name, text in printed(results).items()
    }


def write(results: dict[str, Any], folder: Path) -> None:
    """Writes everything into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"machine": {}}
    results = before | _rounded(results) | {"machine": before["machine"] | results["machine"]}
    file.write_text(_as_json(results), encoding="utf-8")
    for name, text in written(results).items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    for name, draw in PICTURES.items():
        if name in results:
            draw(results[name], folder / f"{name}.png")


def _as_json(results: dict[str, Any]) -> str:
    """With one line for each list of numbers."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found.group().split()), text) + "\n"


def _rounded(value: Any) -> Any:
    """Numbers with five digits."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
