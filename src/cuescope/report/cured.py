"""The report of a cure: whether it worked, whether the remedy did it, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cuescope.core import files
from cuescope.core.naming import short_name, title
from cuescope.report.changes import MARGIN, difference, levels
from cuescope.report.draw import words
from cuescope.report.gather import gather
from cuescope.report.html import Opening, page
from cuescope.runs.comparisons.changes import Change, Changes, Side, between
from cuescope.runs.store import Run
from cuescope.training.cure import Goal


class Written(NamedTuple):
    """The page, what it says first, and what changed."""

    path: Path
    sentences: tuple[str, ...]
    changes: tuple[Changes, ...]


def write(run: Run, goal: Goal, names: Sequence[str], out: Path, notes: Mapping[str, str]) -> Written:
    """Write the page on an audit of the model before, the cured one and, where there is one, the control.

    `names` are theirs in this order; `notes` say what was done. Raises CueError where `out` cannot be written.
    """
    before, cured, *control = (Side(run, name) for name in names)
    shown = [(before, cured), *((side, cured) for side in control)]
    # What is not shown is corrected for too: it is among the comparisons of the audit.
    found = between([*shown, *((before, side) for side in control)])[: len(shown)]
    said, content = sentences(found, goal), gather([run])
    asked = f"Is {short_name(names[0])} cured?"
    files.write(out, page(content, out.parent, found, opening=Opening(asked, said, tuple(notes.items()))).encode())
    return Written(out, said, tuple(found))


def sentences(found: Sequence[Changes], goal: Goal) -> tuple[str, ...]:
    """Did it work, was it the remedy, and what did it cost? By what changed from the model before, and the control."""
    change = _of(found[0], goal.instrument, goal.measure)
    if change is None:
        why = "; ".join(found[0].reasons) or f"{title(goal.measure)} has no value"
        return (f"Whether it worked cannot be told: {why}.",)
    beside = _of(found[1], goal.instrument, goal.measure) if len(found) > 1 else None
    whether = _whether(change, beside, goal)
    told = [f"{whether}. {_sentence(change.title)} went from {levels(change)}, {difference(change)}."]
    if beside is not None:
        did = {True: "the remedy did it", False: "the remedy shows no effect", None: "what the remedy did is open"}
        control = words.value(beside.was, beside.unit)
        told.append(
            f"A control, trained as long on the same images without the remedy, has {control}; the cured one less the "
            f"control is {difference(beside)}: {did[_as_wanted(beside, goal)]}."
        )
    cost = _of(found[0], "accuracy", "top1")
    if cost is not None and cost is not change:
        outcome = MARGIN if cost.outcome == "no difference shown" else cost.outcome
        told.append(f"Accuracy went from {levels(cost)}, {difference(cost)}: {outcome}.")
    return tuple(told)


def _whether(change: Change, beside: Change | None, goal: Goal) -> str:
    """Whether it worked, in a few words: what the control gains too is not the remedy's."""
    worked = _as_wanted(change, goal)
    if not worked:
        return "Whether it worked cannot be told" if worked is None else "It did not work"
    did = beside is None or _as_wanted(beside, goal)
    if did:
        return "It worked"
    return "It got better; whether by the remedy is open" if did is None else "It got better, but not by the remedy"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _of(found: Changes, instrument: str, measure: str) -> Change | None:
    return next((one for one in found.changes if (one.instrument, one.measure) == (instrument, measure)), None)


def _as_wanted(change: Change, goal: Goal) -> bool | None:
    """Whether it surely changed as it was to, after correction for all that is compared; None where it is open."""
    if change.outcome == "cannot tell":
        return None
    return change.outcome != "no difference shown" and (change.value > 0) == (goal.better == "higher")
