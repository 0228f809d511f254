"""Two classifiers at a time: the pairs that are shown in full, and all of them in one square table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cuescope.core.findings import Measure
from cuescope.report.draw import words
from cuescope.report.gather import Entry, Group
from cuescope.report.subjects import Subject

SHOWN = 3
"""Pairs of a group that are shown in full; n classifiers make n(n - 1)/2."""
STRONGEST = 0.22
"""How dark the ground of a square table's cell gets, as a share of ink; the number must stay readable."""


@dataclass(frozen=True)
class Square:
    """A headline measure of each two classifiers, the same above and below the diagonal."""

    title: str
    subjects: tuple[Subject, ...]
    rows: tuple[tuple[Tile | None, ...], ...]


@dataclass(frozen=True)
class Tile:
    """A cell of a square table; None stands on the diagonal and where no pair was compared."""

    number: str
    interval: str
    shade: float
    """Percent of ink in its ground: 0 at no agreement."""
    why: str = ""


def together(group: Group) -> Group:
    """The first pairs of a group as a group of their own, so that they are laid out as classifiers are."""
    answered = [entry for entry in group.pairs if entry.answered]
    return Group(group.images, tuple(answered[:SHOWN]))


def left_out(group: Group) -> int:
    """How many pairs are only in the square table."""
    return max(0, sum(entry.answered for entry in group.pairs) - SHOWN)


def unanswered(group: Group) -> list[Entry]:
    """Pairs that could not be compared, each with the reason in its cell."""
    return [entry for entry in group.pairs if not entry.answered]


def square(group: Group) -> Square | None:
    """The first headline measure of all pairs, where there are three classifiers or more."""
    told = {frozenset(_numbers(entry)): _headline(entry) for entry in group.pairs}
    subjects = [e.subject for e in group.entries if any(e.subject.index in key for key in told)]
    titles = [m.label for m in told.values() if m is not None]
    if len(subjects) < 3 or not titles:
        return None
    rows = (tuple(_tile(told.get(frozenset((a.index, b.index)))) for b in subjects) for a in subjects)
    return Square(titles[0], tuple(subjects), tuple(rows))


def _numbers(entry: Entry) -> Iterable[int | None]:
    return (subject.index for subject in entry.subject.two)


def _headline(entry: Entry) -> Measure | None:
    return next((m for m in entry.finding.measures if m.headline), None) if entry.finding else None


def _tile(measure: Measure | None) -> Tile | None:
    if measure is None:
        return None
    if measure.value is None:
        return Tile(words.DASH, "", 0.0, measure.why)
    shade = 100 * STRONGEST * min(max(measure.value, 0.0), 1.0)
    return Tile(
        words.bare(measure.value, measure.unit), words.interval(measure.interval, measure.unit), round(shade, 1)
    )
