"""The site: every public name has its place on the page of its room, and pages keep their promises."""

import importlib
import inspect
import re
import runpy
from pathlib import Path

import pytest
from matplotlib import pyplot

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECTION = re.compile(r"\.\. currentmodule:: (\S+)\n\n\.\. autosummary::\n(?:   :.*\n)+\n((?:   \w+\n)+)")
DIRECTIVE = re.compile(r"^\.\. (currentmodule|autofunction|autoclass):: (\S+)$", re.MULTILINE)


def listed():
    """For each module the names that its page lists."""
    names = {}
    for page in sorted((DOCS / "api").glob("*.rst")):
        for module, block in SECTION.findall(page.read_text()):
            names[module] = block.split()
    return names


def described():
    """For each module the names that its page describes at length."""
    names, module = {}, ""
    for page in sorted((DOCS / "api").glob("*.rst")):
        for kind, name in DIRECTIVE.findall(page.read_text()):
            module = name if kind == "currentmodule" else module
            names.setdefault(module, []).extend([name] * (kind != "currentmodule"))
    return names


def public_names(module):
    """Functions and classes of this library that a room offers; aliases and Pyro's own are left out."""
    room = importlib.import_module(module)
    offered = {name: getattr(room, name) for name in room.__all__}
    return [
        name
        for name, thing in offered.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("ppl_genmodels")
    ]


@pytest.mark.parametrize("module", sorted(listed()))
def test_what_a_page_lists_is_there_and_described(module):
    room = importlib.import_module(module)
    assert not [name for name in listed()[module] if not hasattr(room, name)]
    assert described()[module] == listed()[module]


@pytest.mark.parametrize(
    "module", ["ppl_genmodels", *(m for m in sorted(listed()) if m.count(".") == 1 and "structure" not in m)]
)
def test_every_public_name_is_on_the_page_of_its_room(module):
    missing = set(public_names(module)) - set(listed()[module])
    assert not missing, f"add them to the page of {module} in docs/api"


def test_every_room_with_public_names_has_a_page():
    package = importlib.import_module("ppl_genmodels")
    rooms = [getattr(package, n) for n in package.__all__ if inspect.ismodule(getattr(package, n))]
    assert not {room.__name__ for room in rooms} - set(listed())


def test_digits_are_explained_5_nats_better_than_by_pca_with_twice_as_many_components(capsys):
    """What the gallery's page on digits shows, from its own script."""
    pyplot.switch_backend("agg")
    names = runpy.run_path(str(DOCS / "gallery" / "plot_vae_digits.py"))
    pyplot.close("all")
    assert names["program"].options["latent_dim"] == 8
    assert names["exact"].mean() > 20
    assert (names["difference"].mean() - 4 * names["error"]) > 5
    assert "VAE, 8 latents" in capsys.readouterr().out
