"""A drawing as a list of marks: written once, shown as SVG in a page or as pixels in a PNG.

Colors are roles ("c0", "ink", "muted", "rule"), so that the page's style sheet decides them in both themes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]

FONT = 10.0
"""Size of ordinary text in a scene; a scene is 360 units wide, about a phone's width in pixels."""
WIDTH = 360.0


@dataclass(frozen=True)
class Line:
    """A line through points; `dash` as in SVG."""

    points: Sequence[Point]
    role: str = "rule"
    width: float = 1.0
    dash: str = ""
    title: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon. With opacity 0 it only catches the pointer for its title."""

    points: Sequence[Point]
    role: str = "rule"
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Mark:
    """A glyph at a point: filled for what was measured, hollow for what others published."""

    at: Point
    glyph: str = "circle"
    role: str = "ink"
    radius: float = 3.6
    hollow: bool = False
    title: str = ""


@dataclass(frozen=True)
class Text:
    at: Point
    text: str
    role: str = "muted"
    size: float = FONT
    anchor: str = "start"
    title: str = ""


Item = Line | Area | Mark | Text


@dataclass(frozen=True)
class Scene:
    """Marks in order of painting. `label` says in words what is seen, for readers who do not see it."""

    height: float
    items: Sequence[Item]
    label: str = ""
    width: float = WIDTH
    kind: str = field(default="plot")


def box(x1: float, y1: float, x2: float, y2: float) -> list[Point]:
    """The corners of an upright rectangle."""
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def outline(glyph: str, at: Point, radius: float) -> list[Point]:
    """The corners of a glyph, about equal in area; a circle is a 24-gon (only pixels need it).

    >>> outline("diamond", (0, 0), 2.0)[0]
    (0.0, -2.7)
    """
    x, y = at
    if glyph == "cross":
        a, b = radius * 1.15, radius * 0.4
        plus = [
            (-b, -a),
            (b, -a),
            (b, -b),
            (a, -b),
            (a, b),
            (b, b),
            (b, a),
            (-b, a),
            (-b, b),
            (-a, b),
            (-a, -b),
            (-b, -b),
        ]
        return [(x + (u - v) * math.sqrt(0.5), y + (u + v) * math.sqrt(0.5)) for u, v in plus]
    sides, turn, scale = {
        "circle": (24, 0.0, 1.0),
        "square": (4, 0.25 * math.pi, 1.27),
        "diamond": (4, 0.0, 1.35),
        "triangle": (3, 0.0, 1.5),
        "wedge": (3, math.pi, 1.5),
        "hexagon": (6, 0.0, 1.15),
    }[glyph]
    corner = (turn + 2 * math.pi * i / sides for i in range(sides))
    return [(x + radius * scale * math.sin(t), y - radius * scale * math.cos(t)) for t in corner]


def svg(scene: Scene) -> str:
    """The scene as one inline SVG element that scales with its container; every text is escaped."""
    body = "".join(_element(item) for item in scene.items)
    return (
        f'<svg class="{scene.kind}" viewBox="0 0 {_n(scene.width)} {_n(scene.height)}" role="img" '
        f'aria-label="{escape(scene.label)}">{body}</svg>'
    )


def glyph_svg(glyph: str, role: str, hollow: bool = False) -> str:
    """A glyph alone, as large as the text it stands in; decoration, so hidden from screen readers."""
    mark = _element(Mark((8, 8), glyph, role, 5.0, hollow))
    return f'<svg class="glyph" viewBox="0 0 16 16" aria-hidden="true">{mark}</svg>'


def _element(item: Item) -> str:
    inner = _title(item.title)
    if isinstance(item, Text):
        return (
            f'<text class="{item.role}" x="{_n(item.at[0])}" y="{_n(item.at[1])}" font-size="{_n(item.size)}" '
            f'text-anchor="{item.anchor}">{inner}{escape(item.text)}</text>'
        )
    if isinstance(item, Line):
        dash = f' stroke-dasharray="{item.dash}"' if item.dash else ""
        return (
            f'<polyline class="{item.role} stroke" points="{_points(item.points)}" '
            f'stroke-width="{_n(item.width)}"{dash}>{inner}</polyline>'
        )
    if isinstance(item, Area):
        return (
            f'<polygon class="{item.role} fill" points="{_points(item.points)}" '
            f'fill-opacity="{_n(item.opacity)}">{inner}</polygon>'
        )
    style = "hollow" if item.hollow else "mark"
    if item.glyph == "circle":
        x, y = item.at
        return f'<circle class="{item.role} {style}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(item.radius)}">{inner}</circle>'
    points = _points(outline(item.glyph, item.at, item.radius))
    return f'<polygon class="{item.role} {style}" points="{points}">{inner}</polygon>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
