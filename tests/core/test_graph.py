"""Graphs of programs: every site and plate is there, in place, and names are escaped."""

import itertools
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from ppl_genmodels.diagnostics import program_graph
from ppl_genmodels.graph_layout import place_sites, plate_boxes
from ppl_genmodels.structure import Plate, Site, Structure

SVG = "{http://www.w3.org/2000/svg}"


def latent(name, plates=(), parents=(), kind="latent"):
    return Site(name, kind, "Normal", plates, torch.Size(), torch.Size(), False, parents)


def observed(name, plates=(), parents=()):
    return latent(name, plates, parents, "observed")


def structure(*sites, **plates):
    made = tuple(Plate(name, dim, 7, 7) for name, dim in plates.items())
    return Structure(sites, made, next(iter(plates), None), len(plates))


PROGRAMS = {
    "autoencoder": structure(latent("z", ("data",)), observed("x", ("data",), ("z",)), data=-1),
    "no_latent": structure(observed("x", ("data",)), data=-1),
    "no_plate": structure(latent("mu"), observed("x", (), ("mu",))),
    "empty": structure(),
    "schools": structure(
        latent("mu"),
        latent("tau"),
        latent("theta", ("school",), ("mu", "tau")),
        observed("y", ("school",), ("theta",)),
        school=-1,
    ),
    "nested": structure(
        latent("mu"),
        latent("group_mean", ("group",), ("mu",)),
        latent("noise"),
        observed("y", ("row", "group"), ("group_mean", "noise")),
        group=-1,
        row=-2,
    ),
    "crossed": structure(
        latent("mu"),
        latent("ability", ("student",), ("mu",)),
        latent("difficulty", ("item",)),
        observed("answer", ("item", "student"), ("ability", "difficulty")),
        student=-1,
        item=-2,
    ),
    "ladder": structure(
        latent("z2", ("data",)),
        latent("z1", ("data",), ("z2",)),
        latent("mean", ("data",), ("z1",), "deterministic"),
        observed("x", ("data",), ("mean", "z2")),
        data=-1,
    ),
    "same_sites": structure(observed("x", ("pixel", "data")), data=-1, pixel=-2),
    "three_deep": structure(
        latent("a", ("A",)),
        latent("b", ("B", "A"), ("a",)),
        observed("c", ("C", "B", "A"), ("b",)),
        A=-1,
        B=-2,
        C=-3,
    ),
}


@pytest.fixture(params=PROGRAMS, ids=str)
def program(request):
    return PROGRAMS[request.param]


def test_every_site_plate_and_arrow_is_drawn(program):
    root = ElementTree.fromstring(program_graph(program))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {site.name for site in program.sites} <= set(texts)
    assert sum("×" in text for text in texts) == len(program.plates)
    assert len(list(root.iter(f"{SVG}path"))) == sum(len(site.parents) for site in program.sites)
    assert len(list(root.iter(f"{SVG}rect"))) == len(program.plates)


def test_parents_stand_above_their_children_and_none_shares_a_place(program):
    places = place_sites(program)
    assert len(set(places.values())) == len(program.sites)
    for site in program.sites:
        for parent in site.parents:
            assert places[parent].layer < places[site.name].layer


def test_plates_hold_their_sites_and_no_other(program):
    places = place_sites(program)
    for box in plate_boxes(program, places):
        for site in program.sites:
            place = places[site.name]
            inside = box.left <= place.column <= box.right and box.top <= place.layer <= box.bottom
            assert inside == (box.name in site.plates)


def test_nested_plates_lie_inside_each_other():
    root = ElementTree.fromstring(program_graph(PROGRAMS["three_deep"]))
    boxes = [
        (x, y, x + float(rect.get("width")), y + float(rect.get("height")))
        for rect in root.iter(f"{SVG}rect")
        for x, y in [(float(rect.get("x")), float(rect.get("y")))]
    ]
    for outer, inner in itertools.pairwise(boxes):
        assert outer[0] < inner[0]
        assert outer[1] < inner[1]
        assert outer[2] > inner[2]
        assert outer[3] > inner[3]


def test_everything_stands_inside_the_picture(program):
    root = ElementTree.fromstring(program_graph(program))
    width, height = map(float, root.get("viewBox").split()[2:])
    for rect in root.iter(f"{SVG}rect"):
        x, y = float(rect.get("x")), float(rect.get("y"))
        assert x >= 0
        assert y >= 0
        assert x + float(rect.get("width")) <= width
        assert y + float(rect.get("height")) <= height
    for node in root.iter(f"{SVG}ellipse"):
        assert float(node.get("cx")) + float(node.get("rx")) <= width
        assert float(node.get("cy")) + float(node.get("ry")) <= height


def test_observed_sites_are_gray_and_deterministic_ones_dashed():
    root = ElementTree.fromstring(program_graph(PROGRAMS["ladder"]))
    nodes = {group.find(f"{SVG}title").text.split(":")[0]: group for group in root.iter(f"{SVG}g")}
    fills = {name: node.find(f"{SVG}ellipse").get("fill") for name, node in nodes.items()}
    assert fills["z1"] == "#ffffff" != fills["x"]
    assert nodes["mean"].find(f"{SVG}ellipse").get("stroke-dasharray")


def test_names_are_escaped_and_long_ones_shortened():
    name = "<script>&" + "very_long_name" * 10
    drawn = program_graph(structure(latent(name, ("a<b",)), **{"a<b": -1}))
    root = ElementTree.fromstring(drawn)
    assert "<script" not in drawn
    assert "a&lt;b × 7" in drawn
    assert name in root.find(f".//{SVG}title").text
    assert float(root.get("width")) < 400


def test_subsampled_plates_give_both_sizes():
    plate = Plate("data", -1, 128, 60000)
    drawn = program_graph(Structure((observed("x", ("data",)),), (plate,), "data", 1))
    assert "data × 128 of 60000" in drawn
