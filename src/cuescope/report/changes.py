"""What got better and what got worse, as text and as lines of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cuescope.report.draw import words
from cuescope.report.draw.axes import domain, track
from cuescope.report.draw.scene import svg
from cuescope.runs.comparisons.changes import Change, Changes, Outcome
from cuescope.runs.comparisons.paired import ALIKE, corrected_for

CHANGED: tuple[Outcome, ...] = ("worse", "better", "changed")
MARGIN = f"less than {100 * ALIKE:.0f} points either way"


def tally(found: Changes) -> str:
    """Which headline measures are worse and better, in a sentence or two that can be said aloud.

    >>> tally(Changes("a", "b", ()))
    'No headline measure could be compared.'
    """
    if not found.headlines:
        return "No headline measure could be compared."
    told = [
        f"{outcome.capitalize()}: {words.listed([change.title for change in those])}."
        for outcome in CHANGED
        if (those := found.of(outcome))
    ]
    if absent := " or ".join(word for word in CHANGED[:2] if not found.of(word)):
        told.append(f"Nothing is shown to be {absent}.")
    same, unsure = len(found.of("no difference shown")), len(found.of("cannot tell"))
    counts = f"no difference shown in {same}, cannot tell of {unsure}"
    return " ".join(told) + f" Of {len(found.headlines)} headline measures: {counts}."


def difference(change: Change) -> str:
    """By how much it is more now, with the interval."""
    unit = "difference" if change.unit in ("share", "probability", "difference") else change.unit
    sign = "+" if unit != "difference" and change.value > 0 else ""
    low_high = [words.bare(end, unit) for end in change.interval or ()]
    return f"{sign}{words.value(change.value, unit)}" + (f" ({' to '.join(low_high)})" if low_high else "")


def levels(change: Change) -> str:
    """From which value to which."""
    return f"{words.value(change.was, change.unit)} to {words.value(change.now, change.unit)}"


def named(change: Change) -> str:
    """The measure and its instrument, for titles as "accuracy" are those of several."""
    return f"{change.title} ({change.instrument})"


def seen(change: Change) -> str:
    """On which images, and what was left out."""
    one = "image" if change.n == 1 else "images"
    return f"{change.n:,} {one} of {change.images}" + (f" ({change.note})" if change.note else "")


def same(found: Changes) -> list[tuple[str, str]]:
    """What is said of the headline measures that did not change, and of which."""
    lines = []
    if alike := found.of("no difference shown"):
        lines.append((f"no difference shown ({MARGIN})", ", ".join(map(named, alike))))
    if unsure := found.of("cannot tell"):
        told = [f"{named(one)} {difference(one)}" + (f", {one.note}" if one.note else "") for one in unsure]
        lines.append(("cannot tell", "; ".join(told)))
    return lines


def lacking(found: Changes) -> list[tuple[str, str]]:
    """What was not compared, and why."""
    lines = [("not compared", told) for told in found.reasons]
    return lines + ([("not compared image by image", ", ".join(found.unpaired))] if found.unpaired else [])


def text(found: Changes) -> str:
    """The headline measures that changed, a line each; then a line of those that did not. No color is needed."""
    lines = [f"{found.before} before, {found.after} after. {tally(found)}"]
    changed = found.of(*CHANGED)
    shown = [(one.outcome, named(one), levels(one), difference(one), seen(one)) for one in changed]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    columns = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in shown]
    lines += ["  " + "  ".join(row).rstrip() for row in columns]
    lines += [f"  {said}: {what}" for said, what in [*same(found), *lacking(found)]]
    return "\n".join(lines)


class Drawn(NamedTuple):
    """A headline measure that changed, as the page shows it."""

    change: Change
    levels: str
    difference: str
    seen: str
    track: str


class Block(NamedTuple):
    """What changed between two classifiers, as the page shows it."""

    found: Changes
    tally: str
    changed: tuple[Drawn, ...]
    same: tuple[tuple[str, str], ...]
    """What is said of the measures that did not change, and of which."""
    lacking: tuple[tuple[str, str], ...]
    """What was not compared, and why."""
    corrected: str


def block(found: Changes) -> Block:
    """The changes with their differences on one axis, 0 in the middle."""
    changed = found.of(*CHANGED)
    return Block(
        found,
        tally(found),
        tuple(map(_drawn, changed, [changed] * len(changed))),
        tuple(same(found)),
        tuple(lacking(found)),
        corrected_for(found.verdicts),
    )


def _drawn(change: Change, together: Sequence[Change]) -> Drawn:
    same = [one for one in together if one.unit == change.unit]
    reach = max(abs(x) for one in same for x in (one.value, *(one.interval or ())))
    graphic = track(domain([-reach, reach], change.unit), change.unit, change.value, change.interval, name=change.title)
    return Drawn(change, levels(change), difference(change), seen(change), svg(graphic))
