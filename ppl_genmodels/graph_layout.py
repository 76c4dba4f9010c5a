"""Where the sites of a program stand in its graph: layers downwards, plates side by side.

Convention of this module: a site has a column and a layer, both counted from 0, the layers
downwards. Sites in the same plates form a block of neighbouring columns, so that the rectangle
around a plate's members holds no other site wherever that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, permutations, product

from ppl_genmodels.structure import Site, Structure

__all__ = ["Box", "Place", "place_sites", "plate_boxes"]

MOST_PERMUTED = 6

Plates = frozenset[str]


@dataclass(frozen=True)
class Place:
    """Where a site stands."""

    column: float
    layer: int


@dataclass(frozen=True)
class Box:
    """The columns and layers that a plate spans.

    ``depth`` counts the plates nested inside it; where plates cross, a fraction sets them apart.
    """

    name: str
    left: float
    right: float
    top: int
    bottom: int
    depth: float


def place_sites(structure: Structure) -> dict[str, Place]:
    """A place for each site, parents above their children.

    Of all orders of the blocks the one is taken whose plates hold the fewest foreign sites and
    whose arrows are shortest.

    Example:
        >>> shape = {"batch_shape": (), "event_shape": (), "discrete": False}
        >>> z = Site("z", "latent", "Normal", (), **shape)
        >>> x = Site("x", "observed", "Normal", (), parents=("z",), **shape)
        >>> place_sites(Structure((z, x), (), None, 0))
        {'z': Place(column=0.0, layer=0), 'x': Place(column=0.0, layer=1)}
    """
    layers = _layers(structure.sites)
    blocks: dict[Plates, list[Site]] = {}
    for site in structure.sites:
        blocks.setdefault(frozenset(site.plates), []).append(site)
    orders = permutations(blocks) if len(blocks) <= MOST_PERMUTED else iter([tuple(blocks)])
    candidates = (
        _arrange([blocks[key] for key in order], layers, stacking) for order, stacking in product(orders, (True, False))
    )
    return min(candidates, key=lambda places: _cost(structure, places), default={})


def plate_boxes(structure: Structure, places: dict[str, Place]) -> list[Box]:
    """The rectangle of each plate that holds a site, the outermost first.

    Args:
        structure: The program's sites and plates.
        places: Where the sites stand, from :func:`place_sites`.
    """
    members = {
        plate.name: [site.name for site in structure.sites if plate.name in site.plates] for plate in structure.plates
    }
    inside = {
        plate.name: {
            other.name
            for other in structure.plates
            if set(members[other.name]) < set(members[plate.name])
            or (set(members[other.name]) == set(members[plate.name]) and other.dim < plate.dim)
        }
        for plate in structure.plates
    }
    boxes: list[Box] = []
    for name in sorted(members, key=lambda name: -len(inside[name])):
        held = [places[member] for member in members[name]]
        if held:
            columns, layers = [p.column for p in held], [p.layer for p in held]
            depth = _depth(name, inside, members) + 0.4 * _crossed(name, boxes, inside, members)
            boxes.append(Box(name, min(columns), max(columns), min(layers), max(layers), depth))
    return boxes


def _crossed(name: str, boxes: Sequence[Box], inside: dict[str, set[str]], members: dict[str, list[str]]) -> int:
    """How many earlier plates share a site with this one and are not around it."""
    return sum(name not in inside[box.name] and not set(members[name]).isdisjoint(members[box.name]) for box in boxes)


def _depth(name: str, inside: dict[str, set[str]], members: dict[str, list[str]]) -> int:
    nested = [other for other in inside[name] if members[other]]
    return 1 + max((_depth(other, inside, members) for other in nested), default=-1)


def _layers(sites: Sequence[Site]) -> dict[str, int]:
    """Below every parent, and below the earlier sites of the plates around the site's own."""
    layers: dict[str, int] = {}
    for site in sites:
        above = [layers[parent] for parent in site.parents if parent in layers]
        plates = set(site.plates)
        above += [layers[s.name] for s in sites if s.name in layers and set(s.plates) < plates]
        layers[site.name] = 1 + max(above, default=-1)
    return layers


def _arrange(blocks: Sequence[Sequence[Site]], layers: dict[str, int], stacking: bool) -> dict[str, Place]:
    """Stacks of blocks from left to right, every layer centred in its stack."""
    places: dict[str, Place] = {}
    left = 0
    for stack in _stacks(blocks, layers) if stacking else [[block] for block in blocks]:
        rows: dict[int, list[str]] = {}
        for site in chain.from_iterable(stack):
            rows.setdefault(layers[site.name], []).append(site.name)
        width = max(map(len, rows.values()))
        for layer, names in rows.items():
            start = left + (width - len(names)) / 2
            places |= {name: Place(start + i, layer) for i, name in enumerate(names)}
        left += width
    return places


def _stacks(blocks: Sequence[Sequence[Site]], layers: dict[str, int]) -> list[list[Sequence[Site]]]:
    """Neighbouring blocks share columns when their plates are nested and their layers differ."""
    stacks: list[list[Sequence[Site]]] = []
    for block in blocks:
        if stacks and all(_can_share(block, other, layers) for other in stacks[-1]):
            stacks[-1].append(block)
        else:
            stacks.append([block])
    return stacks


def _can_share(one: Sequence[Site], other: Sequence[Site], layers: dict[str, int]) -> bool:
    first, second = set(one[0].plates), set(other[0].plates)
    rows = [[layers[site.name] for site in block] for block in (one, other)]
    apart = max(rows[0]) < min(rows[1]) or max(rows[1]) < min(rows[0])
    return apart and (first <= second or second <= first)


def _cost(structure: Structure, places: dict[str, Place]) -> tuple[int, float, float]:
    """Foreign sites inside plates, then the width of arrows, then the width of the graph."""
    foreign = 0
    for box in plate_boxes(structure, places):
        for site in structure.sites:
            place = places[site.name]
            across = box.left - 1 < place.column < box.right + 1
            foreign += box.name not in site.plates and across and box.top <= place.layer <= box.bottom
    arrows = sum(
        abs(places[site.name].column - places[parent].column)
        for site in structure.sites
        for parent in site.parents
        if parent in places
    )
    return foreign, arrows, max((place.column for place in places.values()), default=0.0)
