"""What is true of two classifiers at once: their stored rows on the same images, set side by side. No model."""

import json
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cuescope.core.errors import CueError
from cuescope.core.findings import Conclusion, Finding, about_two
from cuescope.core.progress import Progress
from cuescope.core.verdicts import Verdict
from cuescope.instruments import registry
from cuescope.instruments.base import Instrument, Misfit, name_of
from cuescope.runs.cell import Cell
from cuescope.runs.comparisons.paired import matched
from cuescope.runs.comparisons.stored import Pair
from cuescope.runs.store import Run

DRAWN = 3
"""Pairs of one question that keep their panels: n classifiers make n(n - 1)/2 pairs, each with its numbers."""


def findings(
    runs: Sequence[Run],
    *,
    asked: Iterable[Instrument] = (),
    known: Collection[frozenset[str]] = (),
    progress: Progress | None = None,
) -> list[Pair]:
    """What do the instruments that compare say of each two classifiers that saw the same images?

    Only finished cells of the same instrument, version, parameters and images are set side by side, from their
    rows alone. `asked` gives instruments from files, which no name finds; `known` are keys of pairs to leave out.
    The first pairs of each question keep their panels. A comparison that fails becomes a finding that says so.

    >>> findings([])
    []
    """
    at_hand = {name_of(tool): tool for tool in asked}
    drawn: Counter[str] = Counter()
    rows: dict[Path, Any] = {}
    found = []
    for one, other in matched(runs):
        tool = _tool(one[1], at_hand)
        if tool is None or frozenset((one[1].folder.name, other[1].folder.name)) in known:
            continue
        if progress:
            names = one[1].classifier, other[1].classifier
            progress(0, 0, f"comparing {names[0]} and {names[1]}: {one[1].instrument}")
        # The pairs come sorted by their first cell: its rows and those of one other are all that is held.
        rows = {path: kept for path, kept in rows.items() if path == one[1].folder}
        pair = _compared(tool, one, other, rows)
        question = json.dumps([one[1].instrument, one[1].images, one[1].identity["params"]], sort_keys=True)
        if not pair.finding.why:
            drawn[question] += 1
        if drawn[question] > DRAWN:
            pair = replace(pair, finding=replace(pair.finding, panels=()))
        found.append(pair)
    return found


def _tool(cell: Cell, at_hand: Mapping[str, Instrument]) -> Instrument | None:
    """The instrument of a cell with its parameters, where it is at hand or installed, and compares.

    A run folder never names code to be run: only instruments that are installed are found by its names.
    """
    tool, params = at_hand.get(cell.instrument), cell.identity["params"]
    if tool is None or json.dumps(asdict(tool), sort_keys=True) != json.dumps(params, sort_keys=True):
        if cell.instrument not in registry.names():
            return None
        try:
            tool = registry.build(cell.instrument, params)
        except CueError:
            # Parameters of another version.
            return None
    return tool if tool.compares and tool.version == cell.identity["version"] else None


def _compared(tool: Instrument, one: tuple[Run, Cell], other: tuple[Run, Cell], rows: dict[Path, Any]) -> Pair:
    cells = one[1], other[1]
    names = cells[0].folder.name, cells[1].folder.name
    about = one[0].about(cells[0]), other[0].about(cells[1])
    both, error = replace(about[0], classifier=about_two(about)), ""
    try:
        for cell in cells:
            if cell.folder not in rows:
                rows[cell.folder] = cell.rows(tool)
        finding = tool.finding(tool.compare(rows[cells[0].folder], rows[cells[1].folder], about), both)
        finding.to_json()
    except Misfit as reason:
        said = Conclusion(verdict=Verdict("does not apply", f"The two cannot be compared: {reason}."))
        finding = replace(tool.finding(said, both), why=str(reason))
    except Exception as problem:
        # One comparison that fails, in an instrument of the user's perhaps, must not lose the report.
        error, why = traceback.format_exc(), f"the comparison failed: {problem or type(problem).__name__}"
        params = cells[0].identity["params"]
        asked = cells[0].instrument, cells[0].identity["version"], params, about_two(about), cells[0].images
        finding = Finding(*asked, verdict=Verdict("cannot tell", f"{why[0].upper()}{why[1:]}."), why=why)
    return Pair(cells[0].classifier, cells[1].classifier, names, finding, error)
