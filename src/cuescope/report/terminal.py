"""The headline measures as plain text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from cuescope.core.findings import Measure
from cuescope.report.draw import words
from cuescope.report.gather import Story, gather
from cuescope.report.two import left_out, together, unanswered

if TYPE_CHECKING:
    from cuescope.runs.store import Run


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
    pairs = _pairs(story)
    if pairs.row_count:
        console.print(pairs)
    for line in missing(story):
        console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def _pairs(story: Story) -> Any:
    """The headline measures of each two classifiers, as far as they are shown in full."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("two at a time")
    grid.add_column("", overflow="fold")
    grid.add_column("", justify="right")
    for section in story.sections:
        for group in section.groups:
            for row in together(group).headlines:
                for i, (subject, measure) in enumerate(row.cells):
                    grid.add_row("" if i else row.first.label, subject.title, _cell(measure))
            if left_out(group):
                grid.add_row("", f"and {left_out(group)} more pairs, in pairs.json", "")
    return grid


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
    alone = [s.instrument for s in story.sections if any(g.compares and g.answers and not g.pairs for g in s.groups)]
    if alone:
        lines.append(f"alone: {', '.join(alone)}: whether two agree takes a second classifier on the same images")
    lines += [
        f"not compared: {entry.cell.instrument} of {entry.subject.title}: {entry.cell.why}"
        for section in story.sections
        for group in section.groups
        for entry in unanswered(group)
    ]
    lines += [f"not asked: {u['instrument']}: {u['why']}" for u in story.unasked]
    if story.skipped:
        lines.append(f"skipped: {len(story.skipped):,} images that could not be used; see skipped.csv")
    return lines
