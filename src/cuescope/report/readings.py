"""Measures as large numbers on a common scale: the classifiers', then what others published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cuescope.core.findings import Measure
from cuescope.report.draw import words
from cuescope.report.draw.axes import domain, place, ruler, track
from cuescope.report.draw.scene import glyph_svg, svg
from cuescope.report.gather import Row, Story, difference_unit
from cuescope.report.subjects import Subject

DIAMOND = glyph_svg("diamond", "ink", hollow=True)


@dataclass(frozen=True)
class Reading:
    """One line of a block: who, the number, its interval, and both on the scale."""

    mark: str
    who: str
    number: str
    interval: str = ""
    amount: str = ""
    why: str = ""
    published: bool = False
    track: str = ""


@dataclass(frozen=True)
class Block:
    """A measure with its readings and the ruler beneath them."""

    title: str
    better: str
    readings: tuple[Reading, ...]
    ruler: tuple[tuple[float, str], ...] = ()
    """Places in percent and their numbers."""
    chance: tuple[float, str] | None = None
    sources: tuple[str, ...] = ()


def block(row: Row) -> Block:
    """A measure of all classifiers on one scale."""
    unit, chance = row.first.unit, row.first.chance
    ends = domain([0.0, *_numbers(row)], unit)
    readings = [_reading(subject, m, ends, unit) for subject, m in row.cells]
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


def _numbers(row: Row) -> Iterator[float | None]:
    for m in row.measures:
        yield from (m.value, m.chance, *(m.interval or ()), *(p.value for p in m.published))


def _reading(subject: Subject, m: Measure | None, ends: tuple[float, float], unit: str) -> Reading:
    if m is None:
        return Reading(subject.mark, subject.title, words.MISSING, why="not asked of this classifier")
    if m.value is None:
        return Reading(subject.mark, subject.title, words.MISSING, why=m.why)
    graphic = track(ends, unit, m.value, m.interval, index=subject.index, chance=m.chance, name=subject.title)
    return Reading(
        subject.mark,
        subject.title,
        words.value(m.value, unit),
        words.interval(m.interval, unit),
        words.amount(m),
        track=svg(graphic),
    )


@dataclass(frozen=True)
class Difference:
    """Two classifiers on the same images, ready to be read."""

    a: tuple[str, str]
    b: tuple[str, str]
    """Mark and title of each classifier."""
    number: str
    interval: str
    amount: str
    outcome: str
    why: str
    track: str


@dataclass(frozen=True)
class Contest:
    """A measure with the differences of all pairs, on one scale."""

    title: str
    better: str
    differences: tuple[Difference, ...]
    ruler: tuple[tuple[float, str], ...]
    headline: bool = True
    """Whether the measure is one of those that are shown large; the others can be unfolded."""


def contests(story: Story) -> list[Contest]:
    """The paired comparisons of a story, by measure."""
    together: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for c in story.comparisons:
        together.setdefault((c["instrument"], c["measure"]), []).append(c)
    answers = [finding for section in story.sections for group in section.groups for _, finding in group.answers]
    large = {(finding.instrument, m.name) for finding in answers for m in finding.measures if m.headline}
    return [_contest(story, comparisons, key in large) for key, comparisons in together.items()]


def _contest(story: Story, comparisons: list[Mapping[str, Any]], headline: bool) -> Contest:
    first = comparisons[0]
    unit = difference_unit(first)
    numbers = [x for c in comparisons for x in (c.get("value"), *(c.get("interval") or ()))]
    reach = max((abs(x) for x in numbers if x is not None), default=0.0)
    # A difference of any unit is read against no difference, so 0 stands in the middle.
    ends = domain([-reach, reach], "difference" if unit == "difference" else unit)
    title = first.get("title") or first["measure"].replace("_", " ")
    differences = tuple(_difference(c, unit, ends, _named(story, c["a"]), _named(story, c["b"])) for c in comparisons)
    better = f"{first['better']} is better" if first.get("better") else ""
    return Contest(title, better, differences, tuple(ruler(ends, unit)), headline)


def _named(story: Story, name: str) -> tuple[str, str]:
    subject = story.called(name)
    return (subject.mark, subject.title) if subject else ("", name)


def _difference(
    c: Mapping[str, Any], unit: str, ends: tuple[float, float], a: tuple[str, str], b: tuple[str, str]
) -> Difference:
    value, interval = c.get("value"), c.get("interval")
    graphic = "" if value is None else svg(track(ends, unit, value, interval, name=f"{a[1]} less {b[1]}"))
    return Difference(
        a,
        b,
        ("+" if unit != "difference" and (value or 0) > 0 else "") + words.value(value, unit),
        words.interval(interval, unit),
        f"{c['n']:,} images" if c.get("n") else "",
        _settled(c, a[1], b[1]),
        c.get("why", ""),
        graphic,
    )


def _settled(c: Mapping[str, Any], a: str, b: str) -> str:
    """Who is better, or has more where neither is better, if the interval leaves no doubt."""
    if c.get("value") is None or not c.get("interval"):
        return "not settled"
    low, high = c["interval"]
    if low <= 0 <= high:
        return "no clear difference"
    if not c.get("better"):
        return f"{a if low > 0 else b} is higher"
    return f"{a if (low > 0) == (c['better'] == 'higher') else b} is better"
