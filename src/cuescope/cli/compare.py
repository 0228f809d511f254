"""`cuescope compare`: what got better and worse between two classifiers, and whether they agree."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cuescope.cli.terminal import console, tell
from cuescope.core.naming import short_name

if TYPE_CHECKING:
    from cuescope.runs.comparisons.changes import Changes
    from cuescope.runs.comparisons.stored import Pair


def compare(*runs: Path, json: bool = False) -> None:
    """What got better and worse, from the first run to the second or between the classifiers of one? And do they agree?

    Over the images that both have seen. Exit status 0 whatever is found; `cuescope check` is for CI, and
    `cuescope report BEFORE AFTER` makes the page.

    Args:
        runs: Run folders: before and after, one with several classifiers, or several.
        json: Print JSON instead of text: {"changes": [...], "comparisons": [...], "pairs": [...]}.
    """
    from cuescope.api.compare import compare as api
    from cuescope.report.changes import text
    from cuescope.runs.comparisons.paired import corrected_for

    found = api(*runs)
    if json:
        print(json_module.dumps(found.to_json(), indent=1))
        return
    for one in found.changes:
        tell(f"{text(one)}\n")
        _print_all(one)
    if found.verdicts:
        tell(corrected_for(found.verdicts))
    if found.pairs:
        _print_pairs(found.pairs)


def _print_all(found: Changes) -> None:
    """Every measure of two classifiers."""
    from rich.table import Column, Table

    from cuescope.report.changes import difference, levels, named
    from cuescope.report.draw.words import p_value

    measure = Column("measure", overflow="fold")
    table = Table(measure, "before to after", "after minus before", "images", "p", "", box=None, header_style="bold")
    for one in found.changes:
        table.add_row(named(one), levels(one), difference(one), str(one.n), p_value(one.p), one.outcome)
    if table.row_count:
        shown = console()
        shown.print(table)
        shown.print()


def _print_pairs(pairs: Sequence[Pair]) -> None:
    """For each two classifiers the sentence and the measures."""
    from rich.table import Table

    from cuescope.report.draw import words

    shown = console()
    for pair in pairs:
        shown.print(f"\n{pair.finding.instrument}: {short_name(pair.a)} and {short_name(pair.b)}", style="bold")
        shown.print(pair.finding.sentence)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for m in pair.finding.measures:
            detail = words.interval(m.interval, m.unit) if m.value is not None else m.why
            table.add_row(m.label, words.value(m.value, m.unit), detail, words.amount(m))
        if table.row_count:
            shown.print(table)
