"""The report of a cure: whether it worked, what it cost, and what is the remedy's of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cuescope.core import files
from cuescope.report.changes import difference, levels
from cuescope.report.gather import gather
from cuescope.report.html import page
from cuescope.runs.comparisons.changes import Change, Changes, Side, between
from cuescope.runs.comparisons.pairs import findings
from cuescope.runs.store import Run
from cuescope.training.cure import Cure, Goal


class Written(NamedTuple):
    """The page, what it says first, and what changed."""

    path: Path
    sentences: tuple[str, ...]
    changes: tuple[Changes, ...]


def write(run: Run, cure: Cure, names: Sequence[str], out: Path, stages: Sequence[str]) -> Written:
    """Write the page on the model before, the cured one and, where there is one, the control: the names in this order.

    Raises CueError where `out` cannot be written.
    """
    before, cured, *control = (Side(run, name) for name in names)
    found = between([(before, cured), *((side, cured) for side in control)])
    said = sentences(found, cure.goal)
    content = gather([run], [verdict for one in found for verdict in one.verdicts], findings([run]))
    files.write(out, page(content, out.parent, found, opening=(*said, *_did(stages))).encode())
    return Written(out, said, tuple(found))


def sentences(found: Sequence[Changes], goal: Goal) -> tuple[str, ...]:
    """Did it work, was it the remedy, and what did it cost? By what changed from the model before, and the control."""
    change = _of(found[0], goal.instrument, goal.measure)
    if change is None:
        return ("Whether it worked cannot be said: what was to change could not be compared.",)
    told = [f"{_worked(change, goal)}: {change.title} {levels(change)}, {difference(change)}."]
    if len(found) > 1 and (beside := _of(found[1], goal.instrument, goal.measure)):
        whose = {True: "The remedy did it", False: "It is not the remedy's"}.get(_as_wanted(beside, goal), "")
        told.append(
            f"{whose or 'Whether the remedy did it cannot be told'}: trained as long on the same images without it, the "
            f"control is at {levels(beside).partition(' to ')[0]}, {difference(beside)} to the cured one."
        )
    cost = _of(found[0], "accuracy", "top1")
    if cost is not None and cost is not change:
        told.append(f"Accuracy {levels(cost)}, {difference(cost)}: {cost.outcome}.")
    return tuple(told)


def _of(found: Changes, instrument: str, measure: str) -> Change | None:
    return next((one for one in found.changes if (one.instrument, one.measure) == (instrument, measure)), None)


def _as_wanted(change: Change, goal: Goal) -> bool | None:
    """Whether it surely changed as it was to, after correction; None where nothing is sure."""
    if change.outcome in ("cannot tell", "no difference shown"):
        return None if change.outcome == "cannot tell" else False
    return (change.value > 0) == (goal.better == "higher")


def _worked(change: Change, goal: Goal) -> str:
    return {True: "It worked", False: "It did not work"}.get(
        _as_wanted(change, goal), "Whether it worked cannot be told"
    )  # type: ignore[arg-type]


def _did(stages: Sequence[str]) -> Sequence[str]:
    return [f"What was done: {'; then '.join(stages)}."]
