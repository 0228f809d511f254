"""Lines, bars and points: the data of panels to scenes. Panels of several classifiers become one plot."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cuescope.report.draw import words
from cuescope.report.draw.axes import Part, Scale, domain, shortened
from cuescope.report.draw.color import REFERENCES, accent, glyph
from cuescope.report.draw.dots import dots
from cuescope.report.draw.scene import WIDTH, Area, Item, Line, Mark, Point, Scene, Text, box

BARS_WIDTH = 250.0
"""Histograms stand beside each other, so they are drawn smaller."""
POINTS_WIDTH = 300.0
MOST_PLACES = 400
"""A scatter of more places than these is gathered on a grid, so that each mark stays apart from the next."""
GRID = 40
LARGEST, CROWD = 9.0, 80
"""Radius of a scatter's largest mark; half of it where there are more places than `CROWD`."""
MOST_MARKS = 24
"""A curve of more points than these is drawn without marks."""
Axes = tuple[Scale, Scale, Mapping[float, str]]
"""Across, up, and the names of places on the axis across."""
DASHES = ("", "6 3", "2 2.5", "8 3 2 3", "1 3", "12 3", "5 2 1 2 1 2", "3 6")


def mergeable(parts: Sequence[Part], kind: str) -> bool:
    """Whether panels of several classifiers fit in one plot: curves always, dots where the categories agree."""
    if kind == "dots":
        return len({frozenset(str(row["label"]) for row in part.data["rows"]) for part in parts}) == 1
    return kind == "lines"


def plot(parts: Sequence[Part], kind: str, label: str = "", top: float | None = None) -> Scene:
    """A panel of any kind that is a plot. Only those that are `mergeable` show more than one part."""
    if kind in ("dots", "lines"):
        return (dots if kind == "dots" else lines)(parts, label)
    return points(parts[0], label) if kind == "points" else bars(parts[0], label, top)


def lines(parts: Sequence[Part], label: str = "") -> Scene:
    """Curves with their bands; each classifier has its color, several curves of one differ by their dashes."""
    every = [(p, k, s) for p in parts for k, s in enumerate(p.data["series"])]
    known = [*(s for _, _, s in every), *(curve for _, curve in reference_curves(parts))]
    diagonal = any(part.data.get("diagonal") for part in parts)
    x_ends = (_tight if diagonal else _span)(v for s in known for v in s["x"])
    y_ends = _tight(v for s in known for key in ("y", "low", "high") for v in s.get(key) or ())
    if diagonal:
        x_ends = y_ends = min(x_ends[0], y_ends[0]), max(x_ends[1], y_ends[1])
    data = parts[0].data
    if data.get("from_zero"):
        x_ends = 0.0, 1.05 * x_ends[1]
    if ticks := data.get("ticks"):
        x_ends = ticks[0][0], max(ticks[-1][0], ticks[0][0] + 1)
    low, high = data.get("y_ends", y_ends)
    across, up = Scale(*x_ends, 42, WIDTH - 10), Scale(low, high, 244, 26)
    axes = across, up, dict(data.get("ticks") or ())
    items = _frame(across, up, data.get("x", ""), data.get("y", ""), data.get("ticks"))
    if data.get("chance") is not None:
        items.append(Line([(x, up(data["chance"])) for x in (across.start, across.end)], "muted", 1, "3 3"))
    if diagonal:
        items.append(Line([(across(end), up(end)) for end in x_ends], "muted", 1, "3 3"))
    for shape, curve in reference_curves(parts):
        items += _curve(curve["who"], curve, shape, "ink", axes, hollow=True)
    for part, k, series in every:
        role = accent(part.index)
        name = f"{part.name}, {series['name']}" if len(part.data["series"]) > 1 else part.name
        low, high = series.get("low"), series.get("high")
        if low and high:
            spans = zip(series["x"], low, high, strict=True)
            edge = [(x, a, b) for x, a, b in spans if a is not None and b is not None]
            band = [(across(x), up(b)) for x, _, b in edge] + [(across(x), up(a)) for x, a, _ in reversed(edge)]
            if len(edge) == 1:
                items.append(Line([band[0], band[-1]], role, 1.2))
            items.append(Area(band, role, 0.16 if len(every) < 3 else 0.32 / len(every)))
        items += _curve(name, series, glyph(part.index), role, axes, k)
    return Scene(280, items, label)


def reference_curves(parts: Sequence[Part]) -> list[tuple[str, Mapping[str, Any]]]:
    """Who else has a curve in the plot, each once, with the hollow glyph of its points."""
    found: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        for curve in part.data.get("marks", ()):
            found.setdefault(curve["who"], curve)
    return [(REFERENCES[i % len(REFERENCES)], curve) for i, curve in enumerate(found.values())]


def _curve(
    name: str, series: Mapping[str, Any], shape: str, role: str, axes: Axes, k: int = 0, hollow: bool = False
) -> list[Item]:
    """A curve with a mark for each point, where these are few; broken where it has no value."""
    items: list[Item] = []
    across, up, ticks = axes
    width, radius, dash = (1.1, 3, "") if hollow else (1.8, 2.8, DASHES[k % len(DASHES)])
    for run in _runs(series["x"], series["y"]):
        items.append(Line([(across(x), up(y)) for x, y in run], role, width, dash, name))
        if hollow or len(series["x"]) <= MOST_MARKS:
            for x, y in run:
                tip = f"{name}: {words.plain(y)} at {ticks.get(x, words.plain(x))}"
                items.append(Mark((across(x), up(y)), shape, role, radius, hollow, tip))
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


def _span(numbers: Iterable[float]) -> tuple[float, float]:
    """Ends of the scale across: those of the data, so that curves fill the plot, and 0 where that is near."""
    known = [float(x) for x in numbers if math.isfinite(x)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low = 0.0 if 0 < low <= 0.5 * high else low
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _tight(numbers: Iterable[float | None]) -> tuple[float, float]:
    """Ends of a curve's scale: 0 to 1 where that fits, else round numbers about the data."""
    known = [float(x) for x in numbers if x is not None and math.isfinite(x)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if low >= 0 and high <= 1 and high > 0.4:
        return 0.0, 1.0
    if low > 0 and low > 0.5 * high:
        return (low, high) if high > low else (low - 0.5, low + 0.5)
    return domain(known)


def _frame(
    across: Scale, up: Scale, x_label: str, y_label: str, named: Sequence[tuple[float, str]] | None = None
) -> list[Item]:
    items: list[Item] = []
    for tick in up.ticks(5):
        items.append(Line([(across.start, up(tick)), (across.end, up(tick))], "rule", 0.8))
        items.append(Text((across.start - 6, up(tick) + 3.6), up.tick_text(tick), anchor="end"))
    for tick, text in named or [(tick, across.tick_text(tick)) for tick in across.ticks(5)]:
        anchor = "end" if across(tick) > across.end - 8 else "middle"
        items.append(Line([(across(tick), up.start), (across(tick), up.start + 4)], "muted", 0.8))
        items.append(Text((across(tick), up.start + 15), text, anchor=anchor))
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
    # Room for marks that stand on the ends.
    (x0, x1), (y0, y1) = ((a - 0.04 * (b - a), b + 0.04 * (b - a)) for a, b in (x_ends, y_ends))
    across, up = Scale(x0, x1, 42, 42 + side), Scale(y0, y1, 26 + side, 26)
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
    (x0, x1), (y0, y1) = x_ends, y_ends
    x_step, y_step = (x1 - x0) / GRID, (y1 - y0) / GRID
    for (x, y), there in places.items():
        place = x0 + round((x - x0) / x_step) * x_step, y0 + round((y - y0) / y_step) * y_step
        snapped.setdefault(place, []).extend(there)
    return list(snapped.items())


def _point_tip(there: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> str:
    if len(there) > 1:
        return f"{len(there):,}: {words.listed([str(point['label']) for point in there])}"
    (point,) = there
    n = f" (n = {point['n']:,})" if point.get("n") else ""
    axes = (f"{data.get(key) or key}: {words.plain(point[key])}" for key in "xy")
    return "\n".join([f"{point['label']}{n}", *axes])
