"""The headline measures as plain text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from cuescope.core.errors import printable
from cuescope.core.findings import Measure
from cuescope.core.wording import counted
from cuescope.report.draw import words
from cuescope.report.gather import Content, gather

if TYPE_CHECKING:
    from cuescope.runs.store import Run


def table(run: Run, width: int = 110) -> str:
    """One line a headline measure, a column a classifier, then what is missing and why."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    content = gather([run])
    grid, pairs = (Table(box=box.SIMPLE_HEAD, pad_edge=False) for _ in range(2))
    grid.add_column("")
    for subject in content.subjects:
        grid.add_column(subject.title, justify="right", overflow="fold")
    grid.add_column("published", overflow="fold")
    pairs.add_column("two at a time")
    pairs.add_column("", overflow="fold")
    pairs.add_column("", justify="right")
    for group in content.groups:
        for row in group.headlines:
            by_subject = {s.index: m for s, m in row.cells}
            published = [f"{p.who} {words.value(p.value, row.first.unit)}" for p in row.published]
            cells = [_cell(by_subject.get(s.index)) for s in content.subjects]
            grid.add_row(row.first.label, *cells, "\n".join(published))
        for row in group.pairs_in_full.headlines:
            for i, (subject, measure) in enumerate(row.cells):
                pairs.add_row("" if i else row.first.label, subject.title, _cell(measure))
        if group.pairs_left_out:
            pairs.add_row("", f"and {group.pairs_left_out} more pairs, in pairs.json", "")
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, markup=False, highlight=False)
    for found in (grid, pairs):
        if found.row_count:
            console.print(found)
    for line in missing(content):
        console.print(line, soft_wrap=True)
    return printable("\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n"))


def _cell(measure: Measure | None) -> str:
    if measure is None or measure.value is None:
        return words.DASH
    span = words.interval(measure.interval, measure.unit)
    return words.value(measure.value, measure.unit) + (f"\n{span}" if span else "")


def missing(content: Content) -> list[str]:
    """Each question without an answer, and the images that could not be used, a line each."""
    lines = [
        f"{entry.cell.status}: {entry.cell.instrument} on {entry.subject.title}: {entry.cell.why or 'unfinished'}"
        for entry in content.entries
        if not entry.answered
    ]
    alone = [s.instrument for s in content.sections if any(g.compares and g.answers and not g.pairs for g in s.groups)]
    if alone:
        lines.append(f"alone: {', '.join(alone)}: agreement needs a second classifier on the same images")
    lines += [
        f"not compared: {entry.cell.instrument} of {entry.subject.title}: {entry.cell.why}"
        for group in content.groups
        for entry in group.pairs_unanswered
    ]
    lines += [f"not asked: {u['instrument']}: {u['why']}" for u in content.unasked]
    if content.skipped:
        lines.append(f"skipped: {counted(len(content.skipped), 'image')} that could not be used; see skipped.csv")
    return lines
