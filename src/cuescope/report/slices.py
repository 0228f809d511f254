"""Slices as text and as lines of the page."""

from __future__ import annotations

from typing import NamedTuple

from cuescope.core.naming import short_name
from cuescope.report.draw import words
from cuescope.runs.slices import Part, Slice, Slices

MOST = 40
"""Slices that are shown."""
NAMED = 3


class Line(NamedTuple):
    """A slice as it is shown."""

    found: Slice
    where: str
    inside: str
    outside: str
    n: str
    p: str


def sentence(found: Slices) -> str:
    """What can be said aloud: where it is worse, or that nothing is shown.

    >>> sentence(Slices("cameras.csv", (), 0))
    'No slice has five images.'
    """
    if not found.slices:
        return "No slice has five images."
    worse = [one for one in found.slices if one.said == "worse"]
    if not worse:
        return f"No slice of {len(found.slices)} is shown to be worse than the rest."
    several = len({one.classifier for one in found.slices}) > 1
    told = [
        f"{one.title}{f' of {short_name(one.classifier)}' if several else ''} where {one.column} is {one.value}: "
        f"{words.value(one.inside.value, one.unit)}, elsewhere {words.value(one.outside.value, one.unit)}"
        for one in worse[:NAMED]
    ]
    more = f"; and {len(worse) - NAMED} more" if len(worse) > NAMED else ""
    return f"Worse: {'; '.join(told)}{more}."


def corrected(found: Slices) -> str:
    """The line that belongs beneath them."""
    return f"Corrected for {found.family} differences (Holm); each slice beside all other images of the table."


def lines(found: Slices) -> tuple[list[Line], int]:
    """The slices as they are shown, the worst first, and how many more there are."""
    shown = [
        Line(
            one,
            f"{one.column} = {one.value}",
            _part(one.inside, one.unit),
            _part(one.outside, one.unit),
            f"{one.inside.n:,} and {one.outside.n:,}",
            words.p_value(one.p),
        )
        for one in found.slices[:MOST]
    ]
    return shown, len(found.slices) - len(shown)


def _part(part: Part, unit: str) -> str:
    span = words.interval(part.interval, unit)
    return words.value(part.value, unit) + (f" ({span})" if span else "")
