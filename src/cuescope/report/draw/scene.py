"""A drawing as a list of marks: written once as SVG, which a page shows as it is and `pixels` makes a PNG of.

Colors are roles ("c0", "ink", "muted", "rule"), so that the page's style sheet decides them in both themes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby, pairwise
from typing import NamedTuple

from cuescope.report.draw import maps
from cuescope.report.draw.color import Array

Point = tuple[float, float]

FONT = 10.0
"""Size of ordinary text in a scene; a scene is 360 units wide, about a phone's width in pixels."""
WIDTH = 360.0


class Line(NamedTuple):
    """A line through points; `dash` as in SVG."""

    points: Sequence[Point]
    role: str = "rule"
    width: float = 1.0
    dash: str = ""
    title: str = ""


class Area(NamedTuple):
    """A filled polygon. With opacity 0 it only catches the pointer for its title."""

    points: Sequence[Point]
    role: str = "rule"
    opacity: float = 1.0
    title: str = ""


class Mark(NamedTuple):
    """A glyph at a point: filled for what was measured, hollow for what others published."""

    at: Point
    glyph: str = "circle"
    role: str = "ink"
    radius: float = 3.6
    hollow: bool = False
    title: str = ""


class Text(NamedTuple):
    at: Point
    text: str
    role: str = "muted"
    size: float = FONT
    anchor: str = "start"
    title: str = ""


class Picture(NamedTuple):
    """Pixels, (H, W, 3) uint8, a unit each."""

    pixels: Array


class Placed(NamedTuple):
    """A scene within another, its upper left corner at a point, `times` as large."""

    at: Point
    scene: Scene
    times: float = 1.0


Item = Line | Area | Mark | Text | Picture | Placed


class Scene(NamedTuple):
    """Marks in order of painting. `label` says in words what is seen, for readers who do not see it."""

    height: float
    items: Sequence[Item]
    label: str = ""
    width: float = WIDTH
    kind: str = "plot"


def picture(pixels: Array) -> Scene:
    """An image as a scene of its own."""
    return Scene(pixels.shape[0], [Picture(pixels)], width=pixels.shape[1])


def below(scenes: Iterable[Scene], gap: float = 0) -> Scene:
    """Scenes one below the other, as wide as the widest.

    >>> tall = below([Scene(10, [], width=40), Scene(10, [], width=50)], gap=5)
    >>> tall.width, tall.height, tall.items[1].at
    (50, 25, (0, 15))
    """
    placed, y = [], 0
    for scene in scenes:
        placed.append(Placed((0, y), scene))
        y += math.ceil(scene.height) + gap
    return Scene(y - gap, placed, width=max(one.scene.width for one in placed))


def beside(scenes: Iterable[Scene], gap: float = 0) -> Scene:
    """Scenes in a row, as high as the highest."""
    placed, x = [], 0
    for scene in scenes:
        placed.append(Placed((x, 0), scene))
        x += math.ceil(scene.width) + gap
    return Scene(max(one.scene.height for one in placed), placed, width=x - gap)


def box(x1: float, y1: float, x2: float, y2: float) -> list[Point]:
    """The corners of an upright rectangle."""
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def outline(glyph: str, at: Point, radius: float) -> list[Point]:
    """The corners of a glyph that is no circle, about equal in area.

    >>> outline("diamond", (0, 0), 2.0)[0]
    (0.0, -2.7)
    """
    x, y = at
    if glyph == "cross":
        a, b = radius * 1.15, radius * 0.4
        arm = [(-b, -b), (-b, -a), (b, -a)]  # One of four, each a quarter turn from the last.
        plus = arm + [(-v, u) for u, v in arm] + [(-u, -v) for u, v in arm] + [(v, -u) for u, v in arm]
        return [(x + (u - v) * math.sqrt(0.5), y + (u + v) * math.sqrt(0.5)) for u, v in plus]
    sides, turn, scale = {
        "square": (4, 0.25 * math.pi, 1.27),
        "diamond": (4, 0.0, 1.35),
        "triangle": (3, 0.0, 1.5),
        "wedge": (3, math.pi, 1.5),
        "hexagon": (6, 0.0, 1.15),
    }[glyph]
    corner = (turn + 2 * math.pi * i / sides for i in range(sides))
    return [(x + radius * scale * math.sin(t), y - radius * scale * math.cos(t)) for t in corner]


def svg(scene: Scene) -> str:
    """The scene as one SVG element that scales with its container; every text is escaped."""
    view = f'class="{scene.kind}" viewBox="0 0 {_n(scene.width)} {_n(scene.height)}" role="img"'
    inner = "".join(_elements(scene.items))
    if scene.kind == "track":  # It is one thing, so its words are also what the pointer finds.
        return f"<svg {view}><title>{escape(scene.label)}</title>{inner}</svg>"
    return f'<svg {view} aria-label="{escape(scene.label)}">{inner}</svg>'


def glyph_svg(glyph: str, role: str, hollow: bool = False) -> str:
    """A glyph alone, as large as the text it stands in; decoration, so hidden from screen readers."""
    mark = _element(Mark((8, 8), glyph, role, 5.0, hollow))
    return f'<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true">{mark}</svg>'


def _elements(items: Iterable[Item]) -> Iterator[str]:
    """Lines of one kind that follow each other are one path."""
    for kind, some in groupby(items, key=lambda item: item[1:] if isinstance(item, Line) and not item.title else None):
        if kind is None:
            yield from map(_element, some)
        else:
            yield _line(Line((), *kind), "".join(_path(line.points) for line in some if isinstance(line, Line)))


def _element(item: Item) -> str:
    if isinstance(item, Placed):
        move = f"translate({_n(item.at[0])} {_n(item.at[1])}) scale({_n(item.times, 3)})"
        return f'<g transform="{move}">{"".join(_elements(item.scene.items))}</g>'
    if isinstance(item, Picture):
        height, width = item.pixels.shape[:2]
        return f'<image width="{width}" height="{height}" href="{maps.data_uri(item.pixels)}"/>'
    if isinstance(item, Text):
        x, y = item.at
        role = item.role if item.anchor == "start" else f"{item.role} {item.anchor}"
        style = "" if item.size == FONT else f"font-size:{_n(item.size)}px"
        return _tag("text", role, item.title, item.text, x=x, y=y, style=style)
    if isinstance(item, Line):
        return _line(item, _path(item.points))
    if isinstance(item, Area):
        if not item.opacity:
            return _tag("path", "catch", item.title, d=f"{_path(item.points)}z")
        opacity = "" if item.opacity == 1 else f"{item.opacity:g}"
        return _tag("path", f"{item.role} fill", item.title, d=f"{_path(item.points)}z", fill_opacity=opacity)
    role = f"{item.role} {'hollow' if item.hollow else 'mark'}"
    if item.glyph == "circle":
        return _tag("circle", role, item.title, cx=item.at[0], cy=item.at[1], r=item.radius)
    return _tag("path", role, item.title, d=f"{_path(outline(item.glyph, item.at, item.radius))}z")


def _line(line: Line, path: str) -> str:
    width = "" if line.width == 1 else f"{line.width:g}"
    return _tag("path", f"{line.role} stroke", line.title, d=path, stroke_width=width, stroke_dasharray=line.dash)


def _tag(name: str, role: str, title: str, text: str = "", /, **attributes: str | float) -> str:
    texts = {k.replace("_", "-"): v if isinstance(v, str) else _n(v) for k, v in attributes.items()}
    written = "".join(f' {key}="{value}"' for key, value in texts.items() if value)
    inner = (f"<title>{escape(title)}</title>" if title else "") + escape(text)
    return f'<{name} class="{role}"{written}>{inner}</{name}>' if inner else f'<{name} class="{role}"{written}/>'


def _path(points: Sequence[Point]) -> str:
    """Through the points: to the first, then on; upright and level stretches in short."""
    written = [(_n(x), _n(y)) for x, y in points]
    parts = [f"M{x} {y}" for x, y in written[:1]]
    for (old_x, old_y), (x, y) in pairwise(written):
        parts.append(f"V{y}" if x == old_x else f"H{x}" if y == old_y else f"L{x} {y}")
    return "".join(parts)


def _n(number: float, digits: int = 1) -> str:
    """A number of the scene: tenths of a unit are finer than a screen's pixel."""
    text = f"{number:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
