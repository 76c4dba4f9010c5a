"""The house itself: its version, its links, its pins, and imports that run one way."""

import ast
import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ppl_genmodels"
LINKS = ("models", "guides", "inference")
ORDER = (
    {"errors"},
    {"schedules", "structure", "graph_layout", "graph", "provenance", "probe", "program"},
    {"networks"},
    {"transforms"},
    {"distributions"},
    {"handlers"},
    {"objectives"},
    {"models"},
    {"guides"},
    {"data"},
    {"inference"},
    {"diagnostics"},
    {"workflow"},
    {"cli", "__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def source_files():
    files = (path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py")
    return [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in files]


class WithoutTypes(ast.NodeTransformer):
    """Leaves out what is imported for type checkers only."""

    def visit_If(self, node):
        return node.orelse or None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imported_modules(path, types=True):
    """Every absolute name that the file imports, at any depth."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree if types else WithoutTypes().visit(tree)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(path):
    names = [name.split(".") for name in imported_modules(path)]
    return {parts[1] for parts in names if parts[0] == "ppl_genmodels" and len(parts) > 1}


@pytest.mark.parametrize("path", source_files())
def test_imports_run_one_way(path):
    room = room_of(path)
    assert room in RANK, f"{room} has no place in the order of imports"
    above = {other for other in imported_rooms(path) if RANK.get(other, -1) > RANK[room]}
    assert not above


@pytest.mark.parametrize("path", source_files())
def test_nothing_is_imported_through_a_root_link(path):
    assert not {name.split(".")[0] for name in imported_modules(path)} & set(LINKS)


def test_data_know_nothing_but_errors():
    rooms = set.union(*map(imported_rooms, (PACKAGE / "data").glob("*.py")))
    assert rooms <= {"data", "errors"}


def test_arviz_is_imported_in_diagnostics_alone():
    users = [p for p in PACKAGE.rglob("*.py") if any("arviz" in m for m in imported_modules(p, types=False))]
    assert {room_of(path) for path in users} == {"diagnostics"}


@pytest.mark.parametrize("name", LINKS)
def test_root_links_are_relative_and_lead_into_the_package(name):
    assert os.readlink(ROOT / name) == f"ppl_genmodels/{name}"
    assert (ROOT / name).resolve() == PACKAGE / name


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert importlib.metadata.version("ppl-genmodels") == project["version"]
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest.group(1) == project["version"]


def test_types_are_offered_to_others():
    assert (PACKAGE / "py.typed").is_file()


def test_every_dependency_is_pinned_and_torch_serves_any_build():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert "torch==2.13.0" in pins
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", pin) for pin in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    normal = {re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in pins}
    assert {re.match(r"[\w.-]+", requirement).group() for requirement in wanted} <= normal


def test_ci_runs_lint_and_then_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line.strip() for line in script.read_text().splitlines()]
    assert [line for line in lines if line.startswith("make ")] == ["make lint", "make test"]
    assert "set -euo pipefail" in lines


@pytest.mark.parametrize("target", ["demo", "test", "lint", "docs", "bench", "clean", ".venv"])
def test_make_knows_the_target(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reproduce_asks_for_a_name_and_runs_the_script_of_it():
    command = ["make", "-o", ".venv/.installed"]
    unnamed = subprocess.run([*command, "reproduce"], cwd=ROOT, capture_output=True, text=True)
    assert unnamed.returncode == 2
    assert "make reproduce NAME=" in unnamed.stderr
    named = subprocess.run(
        [*command, "-n", "reproduce", "NAME=aevb-mnist", "DATA_DIR=elsewhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "docs/reproductions/aevb_mnist.py --data-dir elsewhere" in named.stdout


def test_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text.splitlines()[1]
    assert "END OF TERMS AND CONDITIONS" in text
