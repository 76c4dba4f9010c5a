"""A program as a picture: its sites, their dependences, and its plates, as an SVG.

Convention of this module: latent sites are white, observed ones gray, deterministic ones dashed.
Lines and plates take the colour of the text around the picture, so that it can be read on a light
and on a dark page.
"""

from __future__ import annotations

import math
from html import escape

from ppl_genmodels.graph_layout import Box, Place, place_sites, plate_boxes
from ppl_genmodels.structure import Site, Structure

__all__ = ["program_graph"]

HEIGHT = 46
GAP_X = 26
GAP_Y = 34
PADDING = 14
LABEL = 18
LONGEST = 28
MARGIN = 12
BENDS = (0.0, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2)

FILL = {"latent": "#ffffff", "observed": "#c9ced6", "deterministic": "#ffffff"}

Point = tuple[float, float]
Ellipse = tuple[float, float, float]


def program_graph(structure: Structure) -> str:
    """The graph of a program as an SVG element.

    Args:
        structure: The program's sites and plates.

    Returns:
        One ``<svg>`` element, to be written to a file or put into a page as it is.

    Example:
        >>> shape = {"batch_shape": (), "event_shape": (), "discrete": False}
        >>> site = Site("mu", "latent", "Normal", (), **shape)
        >>> program_graph(Structure((site,), (), None, 0)).startswith("<svg")
        True
    """
    return _Drawing(structure).svg()


class _Drawing:
    """The sizes that everything in one picture shares."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.places = place_sites(structure)
        self.boxes = plate_boxes(structure, self.places)
        self.depth = max((box.depth + 1 for box in self.boxes), default=0.0)
        labels = [3.3 * len(self._plate_label(box.name)) for box in self.boxes]
        self.half = max([_half_width(site) for site in structure.sites] + labels, default=40.0)

        skips = any(
            self.places[site.name].layer > self.places[parent].layer + 1
            for site in structure.sites
            for parent in site.parents
            if parent in self.places
        )
        self.margin = MARGIN + (0.7 * self.half if skips else 0.0)

    def svg(self) -> str:
        around = self.depth * PADDING + self.margin
        columns = max((place.column for place in self.places.values()), default=0.0)
        layers = max((place.layer for place in self.places.values()), default=0)
        width = 2 * around + 2 * self.half + columns * self._step_x()
        height = 2 * around + HEIGHT + layers * self._step_y() + self.depth * LABEL
        names = ", ".join(f"{site.name} ({site.kind})" for site in self.structure.sites)
        style = "max-width:100%;height:auto;overflow:visible"
        parts = [
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" '
            f'aria-label="{escape(f"graph of the program: {names}")}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
            f'style="{style}" font-family="system-ui, sans-serif">',
            *(self._plate(box) for box in self.boxes),
            *(self._arrow(p, site.name) for site in self.structure.sites for p in site.parents),
            *(self._node(site) for site in self.structure.sites),
            "</svg>",
        ]
        return "\n".join(filter(None, parts))

    def _step_x(self) -> float:
        return 2 * self.half + GAP_X + 2 * PADDING * max(0, self.depth - 1)

    def _step_y(self) -> float:
        return HEIGHT + GAP_Y + (PADDING + LABEL) * max(0, self.depth - 1)

    def _centre(self, place: Place) -> Point:
        start = self.depth * PADDING + self.margin
        x = start + self.half + place.column * self._step_x()
        return x, start + HEIGHT / 2 + place.layer * self._step_y()

    def _plate(self, box: Box) -> str:
        left, top = self._centre(Place(box.left, box.top))
        right, bottom = self._centre(Place(box.right, box.bottom))
        pad = PADDING * (box.depth + 1)
        x, y = left - self.half - pad, top - HEIGHT / 2 - pad
        width = right + self.half + pad - x
        height = bottom + HEIGHT / 2 + PADDING + (LABEL + 4) * (box.depth + 1) - y
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="10" '
            'fill="none" stroke="currentColor" stroke-opacity="0.6"/>'
            f'<text x="{x + width - 9:.1f}" y="{y + height - 7:.1f}" font-size="12" '
            f'text-anchor="end" fill="currentColor">{escape(self._plate_label(box.name))}</text>'
        )

    def _plate_label(self, name: str) -> str:
        plate = self.structure.plate(name)
        size = f"{plate.size} of {plate.full_size}"
        return f"{_short(name)} × {plate.size if plate.size == plate.full_size else size}"

    def _node(self, site: Site) -> str:
        x, y = self._centre(self.places[site.name])
        shape = f" {list(site.event_shape)}" if len(site.event_shape) else ""
        dashes = ' stroke-dasharray="5 3"' if site.kind == "deterministic" else ""
        return (
            f"<g><title>{escape(f'{site.name}: {site.kind}, {site.distribution}{shape}')}</title>"
            f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{_half_width(site):.1f}" ry="{HEIGHT / 2}" '
            f'fill="{FILL[site.kind]}" stroke="currentColor" stroke-width="1.4"{dashes}/>'
            f'<text x="{x:.1f}" y="{y - 1:.1f}" font-size="14" text-anchor="middle" '
            f'fill="#111827">{escape(_short(site.name))}</text>'
            f'<text x="{x:.1f}" y="{y + 13:.1f}" font-size="10" text-anchor="middle" '
            f'fill="#4b5563">{escape(_short(_detail(site)))}</text></g>'
        )

    def _arrow(self, parent: str, child: str) -> str:
        if parent not in self.places:
            return ""
        start, end = self._centre(self.places[parent]), self._centre(self.places[child])
        middle = self._middle(start, end)
        first = _border(start, middle, _half_width(self.structure.site(parent)))
        last = _border(end, middle, _half_width(self.structure.site(child)) + 2, HEIGHT / 2 + 2)
        return (
            f'<path d="M {_at(first)} Q {_at(middle)} {_at(last)}" fill="none" '
            f'stroke="currentColor" stroke-width="1.3"/>{_head(middle, last)}'
        )

    def _middle(self, start: Point, end: Point) -> Point:
        """The control point of an arrow: swerving as little as passes the sites in between."""
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        sites = self.structure.sites
        others = [(*self._centre(self.places[s.name]), _half_width(s)) for s in sites]
        others = [other for other in others if other[:2] not in (start, end)]
        swerves = sorted((side * self.half * size for size in BENDS for side in (-1, 1)), key=abs)
        controls = [(x + swerve, y) for swerve in swerves]
        return min(controls, key=lambda control: self._crossings(start, control, end, others))

    def _crossings(self, start: Point, control: Point, end: Point, others: list[Ellipse]) -> int:
        """How many of the points along a curve lie on other sites."""
        curve = [_on_curve(start, control, end, step / 24) for step in range(25)]
        return sum(
            math.hypot((x - centre_x) / (half + 4), (y - centre_y) / (HEIGHT / 2 + 4)) < 1
            for x, y in curve
            for centre_x, centre_y, half in others
        )


def _on_curve(start: Point, control: Point, end: Point, t: float) -> Point:
    x, y = ((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c for a, b, c in zip(start, control, end, strict=True))
    return x, y


def _detail(site: Site) -> str:
    if site.kind == "deterministic":
        return "deterministic"
    return f"{site.distribution} {list(site.event_shape)}" if site.event_shape else site.distribution


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 9]}…{text[-8:]}"


def _half_width(site: Site) -> float:
    return max(34.0, 4.3 * len(_short(site.name)) + 14, 2.9 * len(_short(_detail(site))) + 16)


def _border(centre: Point, towards: Point, rx: float, ry: float = HEIGHT / 2) -> Point:
    """Where the line from the centre of an ellipse towards a point leaves it."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = 1 / max(math.hypot(dx / rx, dy / ry), 1e-9)
    return centre[0] + dx * scale, centre[1] + dy * scale


def _head(source: Point, tip: Point, size: float = 9.0) -> str:
    angle = math.atan2(tip[1] - source[1], tip[0] - source[0])
    corners = [(tip[0] - size * math.cos(angle + turn), tip[1] - size * math.sin(angle + turn)) for turn in (0.4, -0.4)]
    return f'<polygon points="{_at(tip)} {_at(corners[0])} {_at(corners[1])}" fill="currentColor"/>'


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
