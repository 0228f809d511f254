"""The headline measures as plain text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from cuescope.draw import words
from cuescope.findings import Measure
from cuescope.report.gather import Story, gather

if TYPE_CHECKING:
    from cuescope.store import Run


def table(run: Run, width: int = 110) -> str:
    """One line a headline measure, a column a classifier, then what is missing and why."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    story = gather([run])
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("")
    for subject in story.subjects:
        grid.add_column(subject.title, justify="right", overflow="fold")
    grid.add_column("published", overflow="fold")
    for section in story.sections:
        for group in section.groups:
            for row in group.headlines:
                by_subject = {s.index: m for s, m in row.cells}
                published = [f"{p.who} {words.value(p.value, row.first.unit)}" for p in row.published]
                cells = [_cell(by_subject.get(s.index)) for s in story.subjects]
                grid.add_row(row.first.label, *cells, "\n".join(published))
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, markup=False, highlight=False)
    if grid.row_count:
        console.print(grid)
    for line in missing(story):
        console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def _cell(measure: Measure | None) -> str:
    if measure is None or measure.value is None:
        return words.DASH
    span = words.interval(measure.interval, measure.unit)
    return words.value(measure.value, measure.unit) + (f"\n{span}" if span else "")


def missing(story: Story) -> list[str]:
    """Each question without an answer, and the images that could not be used, a line each."""
    lines = [
        f"{entry.cell.status}: {entry.cell.instrument} on {entry.subject.title}: {entry.cell.why or 'unfinished'}"
        for section in story.sections
        for entry in section.silent
    ]
    lines += [f"not asked: {u['instrument']}: {u['why']}" for u in story.unasked]
    if story.skipped:
        lines.append(f"skipped: {len(story.skipped):,} images that could not be used; see skipped.csv")
    return lines
