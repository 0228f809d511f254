"""Dot plots: categories down, values across, each classifier's mark beside those of others."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cuescope.report.draw import words
from cuescope.report.draw.axes import Part, Scale, domain, shortened, width_of
from cuescope.report.draw.color import REFERENCES, accent, glyph
from cuescope.report.draw.scene import WIDTH, Area, Item, Line, Mark, Scene, Text, box

MOST_ROWS = 40
"""More categories than these are not drawn: the ends of the order are, and the table has them all."""
LABELS = 150.0
"""The most room for the names of a dot plot's rows."""
TOTAL_GAP = 6.0
"""Between the rows of a dot plot and its total."""


class Reference(NamedTuple):
    """Somebody else in a dot plot: the hollow glyph, the values by row, and bands about them. The first is in ink."""

    who: str
    glyph: str
    role: str
    values: Mapping[str, float]
    spans: Mapping[str, tuple[float, float]]


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
    left = min(max((width_of(text) for text in labels), default=0), LABELS) + 10
    numbers = [row.get(key) for p in parts for row in dot_rows(p.data) for key in ("value", "low", "high")]
    for mark in (mark for part in parts for mark in part.data.get("marks", ())):
        numbers += [*mark["values"], *mark.get("low", ()), *mark.get("high", ())]
    scale = Scale(*domain(numbers, unit), left + 4, WIDTH - 12, unit)
    pitch = 15.0 + 5 * (len(parts) - 1)
    top, bottom = 18.0, 18.0 + pitch * len(labels) + (TOTAL_GAP if total else 0)
    items: list[Item] = []
    for tick in scale.ticks():
        x, role = scale(tick), "muted" if tick == 0 and scale.low < 0 else "rule"
        items.append(Line([(x, top - 4), (x, bottom)], role, 0.8))
        items.append(Text((x, top - 8), scale.tick_text(tick), anchor="end" if x > WIDTH - 16 else "middle"))
    marks = references(parts)
    if total:
        last = bottom - pitch - TOTAL_GAP / 2
        items.append(Line([(0, last), (WIDTH, last)], "rule", 0.8))
        lines = [(mark.values.get(total), mark.role, 0.9, "2 2.5") for mark in marks]
        lines += [(part.data["total"]["value"], accent(part.index), 1.2, "") for part in parts]
        for number, role, width, dash in lines:
            if number is not None:
                items.append(Line([(scale(number), top - 4), (scale(number), bottom - pitch / 2)], role, width, dash))
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
            if row is None:
                continue
            tips.append(_dot_tip(row, unit, part))
            if row["value"] is not None:
                role, interval = accent(part.index), span(row)
                items += [Line([(scale(end), y) for end in interval], role, 1.4)] if interval else []
                items.append(Mark((scale(row["value"]), y), glyph(part.index), role, 3.4))
        items.append(Area(box(0, middle - pitch / 2, WIDTH, middle + pitch / 2), "ink", 0, "\n".join(tips)))
    ends = parts[0].data.get("ends")
    if not ends:
        return Scene(bottom + 6, items, label)
    items += [Text((scale.start, bottom + 13), ends[0]), Text((scale.end, bottom + 13), ends[1], anchor="end")]
    return Scene(bottom + 20, items, label)


def dot_rows(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a dot plot, its total last."""
    return [*data["rows"], data["total"]] if data.get("total") else list(data["rows"])


def span(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval of a row, where both its ends are known."""
    low, high = row.get("low"), row.get("high")
    return None if low is None or high is None else (low, high)


def _reference(mark: Reference, text: str, scale: Scale, y: float, pitch: float) -> list[Item]:
    items: list[Item] = []
    if text in mark.spans:
        low, high = (scale(end) for end in mark.spans[text])
        items.append(Area(box(low, y - pitch / 2 + 1.5, high, y + pitch / 2 - 1.5), mark.role, 0.16))
    if mark.values.get(text) is not None:
        radius = 3.2 if mark.role == "ink" else 2.7
        items.append(Mark((scale(mark.values[text]), y), mark.glyph, mark.role, radius, hollow=True))
    return items


def _dot_tip(row: Mapping[str, Any], unit: str, part: Part) -> str:
    text = f"{part.name}: {words.value(row['value'], unit)}"
    if row["value"] is not None and span(row):
        text += f" ({words.interval(span(row), unit)})"
    return text + (f", n = {row['n']:,}" if row.get("n") else "")


def references(parts: Sequence[Part]) -> list[Reference]:
    """Who else is marked in a dot plot, and by which hollow glyph."""
    found: dict[str, Reference] = {}
    for part in parts:
        labels = [str(row["label"]) for row in dot_rows(part.data)]
        for mark in part.data.get("marks", ()):
            if mark["who"] in found:
                continue
            shape, role = REFERENCES[len(found) % len(REFERENCES)], "muted" if found else "ink"
            spans = zip(labels, mark.get("low", ()), mark.get("high", ()), strict=False)
            bands = {text: (low, high) for text, low, high in spans if low is not None and high is not None}
            values = dict(zip(labels, mark["values"], strict=True))
            found[mark["who"]] = Reference(mark["who"], shape, role, values, bands)
    return list(found.values())
