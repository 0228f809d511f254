"""Dots, lines, bars and points: the data of panels to scenes. Panels of several classifiers become one plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuescope.draw import words
from cuescope.draw.axes import Scale, domain, shortened, width_of
from cuescope.draw.color import accent, glyph
from cuescope.draw.scene import WIDTH, Area, Item, Line, Mark, Point, Scene, Text, box

MOST_ROWS = 40
"""More categories than these are not drawn: the ends of the order are, and the table has them all."""
BARS_WIDTH = 250.0
"""Histograms stand beside each other, so they are drawn smaller."""
POINTS_WIDTH = 300.0
MOST_PLACES = 400
"""A scatter of more places than these is gathered on a grid, so that each mark can still be told from the next."""
GRID = 40
LARGEST, CROWD = 9.0, 80
"""Radius of a scatter's largest mark; half of it where there are more places than `CROWD`."""
DASHES = ("", "6 3", "2 2.5", "8 3 2 3", "1 3", "12 3", "5 2 1 2 1 2", "3 6")
TOTAL_GAP = 6.0
"""Between the rows of a dot plot and its total."""
REFERENCES = ("diamond", "square", "circle", "triangle", "wedge", "hexagon")


@dataclass(frozen=True)
class Part:
    """One classifier's share of a plot: its number (color and glyph; None: two at once), its name, the panel's data."""

    index: int | None
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """Somebody else in a dot plot: the hollow glyph, the values by row, and bands about them. The first is in ink."""

    who: str
    glyph: str
    role: str
    values: Mapping[str, float]
    spans: Mapping[str, tuple[float, float]]


def mergeable(parts: Sequence[Part], kind: str) -> bool:
    """Whether panels of several classifiers fit in one plot: curves always, dots where the categories agree."""
    if kind == "dots":
        return len({frozenset(str(row["label"]) for row in part.data["rows"]) for part in parts}) == 1
    return kind == "lines"


def chosen_rows(parts: Sequence[Part]) -> tuple[list[str], int]:
    """The categories of a dot plot in the order given, and how many had to be left out of its middle.

    >>> chosen_rows([Part(0, "a", {"rows": [{"label": "cat", "value": 0.5}]})])
    (['cat'], 0)
    """
    labels = list(dict.fromkeys(str(row["label"]) for part in parts for row in part.data["rows"]))
    if len(labels) <= MOST_ROWS:
        return labels, 0
    half = MOST_ROWS // 2
    return labels[:half] + labels[-half:], len(labels) - MOST_ROWS


def dots(parts: Sequence[Part], label: str = "") -> Scene:
    """Categories down, values across: each classifier's value with its interval, and reference marks.

    Where the panel has a total it is the last row, with a line from each of its marks up through all the others.
    """
    labels, _ = chosen_rows(parts)
    total = str(parts[0].data["total"]["label"]) if parts[0].data.get("total") else ""
    labels = [*labels, total] if total else labels
    unit = parts[0].data.get("unit", "")
    left = min(max((width_of(text) for text in labels), default=0), 128) + 10
    scale = Scale(*domain(_dot_numbers(parts), unit), left + 4, WIDTH - 12, unit)
    pitch = 15.0 + 5 * (len(parts) - 1)
    top, bottom = 18.0, 18.0 + pitch * len(labels) + (TOTAL_GAP if total else 0)
    items = _vertical_grid(scale, top - 4, bottom)
    marks = references(parts)
    if total:
        last = bottom - pitch - TOTAL_GAP / 2
        items.append(Line([(0, last), (WIDTH, last)], "rule", 0.8))
        items += _total_lines(parts, marks, total, scale, top - 4, bottom - pitch / 2)
    for i, text in enumerate(labels):
        middle = top + pitch * (i + 0.5) + (TOTAL_GAP if text == total and i == len(labels) - 1 else 0)
        items.append(Text((left - 6, middle + 3.6), shortened(text, left - 8), "ink", anchor="end", title=text))
        tips = [text]
        for mark in reversed(marks):  # The first is the one that matters, so it lies on top.
            items += _reference(mark, text, scale, middle, pitch)
        tips += [f"{m.who}: {words.value(m.values[text], unit)}" for m in marks if m.values.get(text) is not None]
        for k, part in enumerate(parts):
            y = middle + 5 * (k - (len(parts) - 1) / 2)
            row = next((r for r in dot_rows(part.data) if str(r["label"]) == text), None)
            if row is not None:
                items += _dot(row, scale, y, part)
                tips.append(_dot_tip(row, unit, part))
        items.append(Area(box(0, middle - pitch / 2, WIDTH, middle + pitch / 2), "ink", 0, "\n".join(tips)))
    ends = parts[0].data.get("ends")
    if not ends:
        return Scene(bottom + 6, items, label)
    items += [Text((scale.start, bottom + 13), ends[0]), Text((scale.end, bottom + 13), ends[1], anchor="end")]
    return Scene(bottom + 20, items, label)


def dot_rows(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a dot plot, its total last."""
    return [*data["rows"], data["total"]] if data.get("total") else list(data["rows"])


def _total_lines(
    parts: Sequence[Part], marks: Sequence[Reference], total: str, scale: Scale, top: float, bottom: float
) -> list[Item]:
    lines: list[Item] = []
    for mark in marks:
        if mark.values.get(total) is not None:
            x = scale(mark.values[total])
            lines.append(Line([(x, top), (x, bottom)], mark.role, 0.9, "2 2.5"))
    for part in parts:
        value = part.data["total"]["value"]
        if value is not None:
            lines.append(Line([(scale(value), top), (scale(value), bottom)], accent(part.index), 1.2))
    return lines


def _reference(mark: Reference, text: str, scale: Scale, y: float, pitch: float) -> list[Item]:
    items: list[Item] = []
    if text in mark.spans:
        low, high = (scale(end) for end in mark.spans[text])
        items.append(Area(box(low, y - pitch / 2 + 1.5, high, y + pitch / 2 - 1.5), mark.role, 0.16))
    if mark.values.get(text) is not None:
        items.append(Mark((scale(mark.values[text]), y), mark.glyph, mark.role, 3.2, True))
    return items


def _dot(row: Mapping[str, Any], scale: Scale, y: float, part: Part) -> list[Item]:
    if row["value"] is None:
        return []
    role, items = accent(part.index), []
    if row.get("low") is not None and row.get("high") is not None:
        items.append(Line([(scale(row["low"]), y), (scale(row["high"]), y)], role, 1.4))
    return [*items, Mark((scale(row["value"]), y), glyph(part.index), role, 3.4)]


def _dot_tip(row: Mapping[str, Any], unit: str, part: Part) -> str:
    text = f"{part.name}: {words.value(row['value'], unit)}"
    if row["value"] is not None and row.get("low") is not None and row.get("high") is not None:
        text += f" ({words.interval((row['low'], row['high']), unit)})"
    return text + (f", n = {row['n']:,}" if row.get("n") else "")


def _dot_numbers(parts: Sequence[Part]) -> Iterable[float | None]:
    for part in parts:
        for row in dot_rows(part.data):
            yield from (row["value"], row.get("low"), row.get("high"))
        for mark in part.data.get("marks", ()):
            yield from (*mark["values"], *mark.get("low", ()), *mark.get("high", ()))


def references(parts: Sequence[Part]) -> list[Reference]:
    """Who else is marked in a dot plot, and by which hollow glyph."""
    found: dict[str, Reference] = {}
    for part in parts:
        labels = [str(row["label"]) for row in dot_rows(part.data)]
        for mark in part.data.get("marks", ()):
            if mark["who"] in found:
                continue
            k = len(found)
            spans = zip(labels, mark.get("low", ()), mark.get("high", ()), strict=False)
            found[mark["who"]] = Reference(
                mark["who"],
                REFERENCES[k % len(REFERENCES)],
                "muted" if k else "ink",
                dict(zip(labels, mark["values"], strict=True)),
                {text: (low, high) for text, low, high in spans if low is not None and high is not None},
            )
    return list(found.values())


def _vertical_grid(scale: Scale, top: float, bottom: float) -> list[Item]:
    items: list[Item] = []
    for tick in scale.ticks():
        x = scale(tick)
        items.append(Line([(x, top), (x, bottom)], "muted" if tick == 0 and scale.low < 0 else "rule", 0.8))
        items.append(Text((x, top - 4), scale.tick_text(tick), anchor="end" if x > WIDTH - 16 else "middle"))
    return items


def lines(parts: Sequence[Part], label: str = "") -> Scene:
    """Curves with their bands; each classifier has its color, several curves of one are told apart by dashes."""
    every = [(p, k, s) for p in parts for k, s in enumerate(p.data["series"])]
    x_ends = _tight(v for _, _, s in every for v in s["x"])
    y_ends = _tight(v for _, _, s in every for key in ("y", "low", "high") for v in s.get(key) or ())
    if any(p.data.get("diagonal") for p in parts):
        x_ends = y_ends = min(x_ends[0], y_ends[0]), max(x_ends[1], y_ends[1])
    across, up = Scale(*x_ends, 42, WIDTH - 10), Scale(*y_ends, 244, 26)
    data = parts[0].data
    items = _frame(across, up, data.get("x", ""), data.get("y", ""))
    if any(p.data.get("diagonal") for p in parts):
        items.append(Line([(across(x_ends[0]), up(x_ends[0])), (across(x_ends[1]), up(x_ends[1]))], "muted", 1, "3 3"))
    for part, k, series in every:
        items += _curve(part, k, series, across, up, 0.16 if len(every) < 3 else 0.32 / len(every))
    return Scene(280, items, label)


def _curve(part: Part, k: int, series: Mapping[str, Any], across: Scale, up: Scale, strength: float) -> list[Item]:
    role, items = accent(part.index), []
    name = part.name if len(part.data["series"]) == 1 else f"{part.name}, {series['name']}"
    low, high = series.get("low"), series.get("high")
    if low and high:
        edge = [(x, a, b) for x, a, b in zip(series["x"], low, high, strict=True) if a is not None and b is not None]
        band = [(across(x), up(b)) for x, _, b in edge] + [(across(x), up(a)) for x, a, _ in reversed(edge)]
        items.append(Area(band, role, strength))
    for run in _runs(series["x"], series["y"]):
        items.append(Line([(across(x), up(y)) for x, y in run], role, 1.8, DASHES[k % len(DASHES)], name))
        if len(series["x"]) <= 24:
            points = ((x, y, (across(x), up(y))) for x, y in run)
            items += [
                Mark(at, glyph(part.index), role, 2.8, title=f"{name}: {words.plain(y)} at {words.plain(x)}")
                for x, y, at in points
            ]
    return items


def _runs(xs: Sequence[float], ys: Sequence[float | None]) -> list[list[Point]]:
    """The stretches of a curve between its gaps."""
    runs: list[list[Point]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if y is None or not math.isfinite(y):
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _tight(numbers: Iterable[float | None]) -> tuple[float, float]:
    """Ends of a curve's scale: 0 to 1 where that fits, else round numbers about the data."""
    known = [float(x) for x in numbers if x is not None and math.isfinite(x)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if low >= 0 and high <= 1 and high > 0.4:
        return 0.0, 1.0
    if low > 0 and low > 0.5 * high:
        return (low, high) if high > low else (low - 0.5, low + 0.5)
    return domain(known)


def _frame(across: Scale, up: Scale, x_label: str, y_label: str) -> list[Item]:
    items: list[Item] = []
    for tick in up.ticks(5):
        items.append(Line([(across.start, up(tick)), (across.end, up(tick))], "rule", 0.8))
        items.append(Text((across.start - 6, up(tick) + 3.6), up.tick_text(tick), anchor="end"))
    for tick in across.ticks(5):
        anchor = "end" if across(tick) > across.end - 8 else "middle"
        items.append(Line([(across(tick), up.start), (across(tick), up.start + 4)], "muted", 0.8))
        items.append(Text((across(tick), up.start + 15), across.tick_text(tick), anchor=anchor))
    items.append(Line([(across.start, up.start), (across.end, up.start)], "muted", 0.8))
    items.append(Text((4, 11), shortened(y_label, across.end - 4), "ink"))
    items.append(Text((across.end, up.start + 31), shortened(x_label, across.end - across.start), "ink", anchor="end"))
    return items


def bars(part: Part, label: str = "", top: float | None = None) -> Scene:
    """A histogram; `top` sets the height of several beside each other equal."""
    edges, values = part.data["edges"], part.data["values"]
    across = Scale(edges[0], edges[-1], 38, BARS_WIDTH - 8)
    up = Scale(*domain([0, *values, top]), 168, 24)
    items = _frame(across, up, part.data.get("x", ""), part.data.get("y", ""))
    for a, b, number in zip(edges, edges[1:], values, strict=False):
        if number:
            tip = f"{words.plain(a)} to {words.plain(b)}: {words.plain(number)}"
            corners = box(across(a) + 0.5, up(number), max(across(b) - 0.5, across(a) + 1), up.start)
            items.append(Area(corners, accent(part.index), 0.85, tip))
    return Scene(204, items, label, BARS_WIDTH, "plot narrow")


def points(part: Part, label: str = "") -> Scene:
    """A scatter: one mark a place, its area the number of points there, named in its tooltip."""
    data = part.data
    x_ends, y_ends = (_tight(p[key] for p in data["points"]) for key in "xy")
    if data.get("diagonal"):
        x_ends = y_ends = min(x_ends[0], y_ends[0]), max(x_ends[1], y_ends[1])
    side = POINTS_WIDTH - 10 - 42
    across, up = Scale(*_wider(x_ends), 42, 42 + side), Scale(*_wider(y_ends), 26 + side, 26)
    items = _frame(across, up, data.get("x", ""), data.get("y", ""))
    if data.get("diagonal"):
        items.append(Line([(across(end), up(end)) for end in (across.low, across.high)], "muted", 1, "3 3"))
    places = gathered(data["points"], x_ends, y_ends)
    most = max((len(there) for _, there in places), default=1)
    usual, largest = (2.6, LARGEST) if len(places) <= CROWD else (1.9, LARGEST / 2)
    unit = min(usual, largest / math.sqrt(most))
    for (x, y), there in sorted(places, key=lambda place: -len(place[1])):
        radius = max(1.2, unit * math.sqrt(len(there)))
        items.append(Mark((across(x), up(y)), "circle", accent(part.index), radius, title=_point_tip(there, data)))
    return Scene(26 + side + 36, items, label, POINTS_WIDTH, "plot narrow")


def _wider(ends: tuple[float, float]) -> tuple[float, float]:
    """Room for marks that stand on the ends."""
    room = 0.04 * (ends[1] - ends[0])
    return ends[0] - room, ends[1] + room


def gathered(
    every: Sequence[Mapping[str, Any]], x_ends: tuple[float, float], y_ends: tuple[float, float]
) -> list[tuple[Point, list[Mapping[str, Any]]]]:
    """Points by place; where there are too many places, by the nearest place of a grid.

    >>> [(at, len(there)) for at, there in gathered([{"x": 1, "y": 0}, {"x": 1, "y": 0}], (0, 1), (0, 1))]
    [((1, 0), 2)]
    """
    places: dict[Point, list[Mapping[str, Any]]] = {}
    for point in every:
        places.setdefault((point["x"], point["y"]), []).append(point)
    if len(places) <= MOST_PLACES:
        return list(places.items())
    snapped: dict[Point, list[Mapping[str, Any]]] = {}
    for (x, y), there in places.items():
        snapped.setdefault((_snapped(x, x_ends), _snapped(y, y_ends)), []).extend(there)
    return list(snapped.items())


def _snapped(number: float, ends: tuple[float, float]) -> float:
    step = (ends[1] - ends[0]) / GRID
    return ends[0] + round((number - ends[0]) / step) * step


def _point_tip(there: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> str:
    if len(there) > 1:
        return f"{len(there):,}: {words.listed([str(point['label']) for point in there])}"
    (point,) = there
    n = f" (n = {point['n']:,})" if point.get("n") else ""
    axes = (f"{data.get(key) or key}: {words.plain(point[key])}" for key in "xy")
    return "\n".join([f"{point['label']}{n}", *axes])
