"""Measures as large numbers on a common scale: the classifiers, then published values; and their differences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cuescope.report.draw import words
from cuescope.report.draw.axes import domain, place, ruler, track
from cuescope.report.draw.scene import glyph_svg, svg
from cuescope.report.gather import Content, Row

DIAMOND = glyph_svg("diamond", "ink", hollow=True)


class Reading(NamedTuple):
    """One line of a block: a classifier, the number, its interval, and both on the scale."""

    mark: str
    who: str
    number: str
    interval: str = ""
    amount: str = ""
    why: str = ""
    published: bool = False
    track: str = ""
    minus: tuple[str, str] = ("", "")
    """Of a difference: mark and title of the classifier that is subtracted."""
    outcome: str = ""
    """Of a difference: which classifier is better, if that is clear."""


class Block(NamedTuple):
    """A measure with its readings and the ruler beneath them."""

    title: str
    better: str
    readings: tuple[Reading, ...]
    ruler: tuple[tuple[float, str], ...] = ()
    """Places in percent and their numbers."""
    chance: tuple[float, str] | None = None
    sources: tuple[str, ...] = ()
    headline: bool = True
    """Whether the measure is one of those that are shown large; the others can be unfolded."""


def block(row: Row) -> Block:
    """A measure of all classifiers on one scale."""
    unit, chance = row.first.unit, row.first.chance
    numbers = [x for m in row.measures for x in (m.value, m.chance, *(m.interval or ()))]
    ends = domain([0.0, *numbers, *(p.value for p in row.published)], unit)
    readings = []
    for subject, m in row.cells:
        if m is None or m.value is None:
            why = "not asked of this classifier" if m is None else m.why
            readings.append(Reading(subject.mark, subject.title, words.MISSING, why=why))
            continue
        graphic = track(ends, unit, m.value, m.interval, index=subject.index, chance=m.chance, name=subject.title)
        number, interval = words.value(m.value, unit), words.interval(m.interval, unit)
        readings.append(Reading(subject.mark, subject.title, number, interval, words.amount(m), track=svg(graphic)))
    for p in row.published:
        graphic = svg(track(ends, unit, p.value, published=True, chance=chance, name=f"{p.who} (published)"))
        readings.append(Reading(DIAMOND, p.who, words.value(p.value, unit), published=True, track=graphic))
    better = f"{row.first.better} is better" if row.first.better else ""
    if not any(r.track for r in readings):
        return Block(row.first.label, better, tuple(readings))
    level = None if chance is None else (place(ends, chance), f"chance {words.value(chance, unit)}")
    return Block(row.first.label, better, tuple(readings), tuple(ruler(ends, unit)), level, sources(row))


def sources(row: Row) -> tuple[str, ...]:
    """Where the published values are printed; who is named only where the sources differ."""
    by_source: dict[str, list[str]] = {}
    for p in row.published:
        by_source.setdefault(p.source, []).append(p.who)
    if len(by_source) == 1:
        return tuple(by_source)
    return tuple(f"{words.listed(who)}: {source}" for source, who in by_source.items())


def differences(content: Content) -> list[Block]:
    """The paired comparisons, by measure: all pairs of a measure on one scale."""
    together: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for c in content.comparisons:
        together.setdefault((c["instrument"], c["measure"]), []).append(c)
    answers = [finding for group in content.groups for _, finding in group.answers]
    large = {(finding.instrument, m.name) for finding in answers for m in finding.measures if m.headline}
    names = [subject.name for subject in content.subjects]
    known = {s.name: (s.mark, s.title) for s in content.subjects if names.count(s.name) == 1}
    return [_differences(comparisons, known, key in large) for key, comparisons in together.items()]


def more_differences(blocks: Sequence[Block]) -> list[list[str]]:
    """The differences of measures that are not shown large, as the rows of a table."""
    return [
        [one.title, f"{r.who} minus {r.minus[1]}", r.number, r.interval or r.why, r.amount, r.outcome]
        for one in blocks
        for r in one.readings
    ]


def _differences(comparisons: Sequence[Mapping[str, Any]], known: Mapping[str, Any], headline: bool) -> Block:
    first = comparisons[0]
    # Differences of shares are in points, of other measures in their own unit.
    unit = "difference" if first.get("unit", "share") == "share" else first["unit"]
    numbers = [x for c in comparisons for x in (c.get("value"), *(c.get("interval") or ()))]
    reach = max((abs(x) for x in numbers if x is not None), default=0.0)
    ends = domain([-reach, reach], unit)  # 0 in the middle: any difference is read against no difference.
    title = first.get("title") or first["measure"].replace("_", " ")
    better = f"{first['better']} is better" if first.get("better") else ""
    readings = []
    for c in comparisons:
        (mark, a), minus = (known.get(c[key], ("", c[key])) for key in "ab")
        value, interval, why = c.get("value"), c.get("interval"), c.get("why", "")
        number = ("+" if unit != "difference" and (value or 0) > 0 else "") + words.value(value, unit)
        amount = f"{c['n']:,} images" if c.get("n") else ""
        graphic = "" if value is None else svg(track(ends, unit, value, interval, name=f"{a} minus {minus[1]}"))
        span, outcome = words.interval(interval, unit), _outcome(c, a, minus[1])
        readings.append(Reading(mark, a, number, span, amount, why, False, graphic, minus, outcome))
    return Block(title, better, tuple(readings), tuple(ruler(ends, unit)), headline=headline)


def _outcome(c: Mapping[str, Any], a: str, b: str) -> str:
    """What may be said of a difference, by the classifiers' names; one that was not corrected says nothing."""
    said = c.get("said", "cannot tell")
    who, _, rest = said.partition(" ")
    return f"{a if who == 'a' else b} {rest}" if who in ("a", "b") else said
