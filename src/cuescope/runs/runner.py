"""Instruments x classifiers x image sets: here or by other processes, and what comes of it."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple, Protocol

from cuescope.core.errors import RAISED, CueError
from cuescope.core.processes import Shard
from cuescope.data.derived import root
from cuescope.data.images import ImageSet
from cuescope.instruments.base import name_of
from cuescope.runs.cell import Cell, timed
from cuescope.runs.estimate import Meter
from cuescope.runs.pictures import Pictures
from cuescope.runs.reader import Reader, unseen
from cuescope.runs.reading import Reading, Seen, started
from cuescope.runs.store import Run
from cuescope.runs.task import Task
from cuescope.runs.units import Positions, Unit, batches, groups, union, units


def run(
    tasks: Sequence[Task],
    out: Run,
    cells: Sequence[Cell] = (),
    *,
    workers: int | None = None,
    meter: Meter | None = None,
) -> Sequence[Cell]:
    """Read every instrument of the tasks and conclude; the cells, in the order of the tasks.

    A failing instrument is recorded in its cell and the others go on. Chunks that are in the run folder are not done
    again, nor full batches of a chunk that was begun. Raises CueError where an image set has no readable image, and for
    parameters that do not fit a classifier.
    """
    meter = meter or Meter()
    cells = cells or [out.cell(task.identity, task.answers) for task in tasks]
    readers = []
    for task, cell in zip(tasks, cells, strict=True):
        if not cell.concluded:
            cell.forget_error()
            readers.append(started(task, cell, meter))
    _check_applies(cells)
    for group in groups(tasks):
        mine = {id(task) for task in group}
        working = [reader for reader in readers if id(reader.task) in mine and reader.works]
        if working:
            parts = batches(union(group))
            images = root(group[0].images)
            pictures = _pictures(images, parts)
            seen = Reading(images, working, out, meter, workers, pictures).run(parts)
            seen.check(images.name, (reader.cell for reader in working))
            for reader in working:
                if reader.works:
                    _conclude(reader, pictures)
    return cells


class Engine(Protocol):
    """Where units are done. Yields what came of each, in any order, once its chunks are in the run folder."""

    def __call__(self, numbers: Sequence[int], /) -> Generator[Done]: ...


class Done(NamedTuple):
    """What came of a unit."""

    unit: int
    seen: Seen
    seconds: dict[int, float]
    """What the instruments have taken, by the number of the task."""


def spread(
    tasks: Sequence[Task],
    out: Run,
    cells: Sequence[Cell],
    engine: Engine,
    meter: Meter,
    shard: Shard | None = None,
) -> None:
    """Have an engine read every instrument of the tasks, then conclude; what is in the run folder is not done again.

    With a `shard` (i, n) only each n-th unit is read, from the i-th on, and nothing is concluded. Raises CueError as
    `run` does.
    """
    every = units(tasks)
    first, step = (shard[0] - 1, shard[1]) if shard else (0, 1)
    there = [None if cell.concluded else cell.chunks.done() for cell in cells]
    left = [n for n in range(first, len(every), step) if _is_left(every[n], there)]
    for cell in cells:
        if not cell.concluded:
            cell.forget_error()
    seen, observed = [Seen() for _ in groups(tasks)], 0
    total = sum(every[n].images for n in left)
    show = meter.part(meter.total if shard else _reading_seconds(tasks, meter))
    show(0, total, "reading")
    # Whatever stops it, other processes are ended here and now.
    with closing(engine(left)) as found:
        for done in found:
            unit = every[done.unit]
            seen[unit.group] += done.seen
            observed += unit.images
            for number, seconds in done.seconds.items():
                cells[number].seconds += seconds
            show(observed, total, "reading")
    for cell in cells:
        cell.refresh()
        cell.take_error()
    _check_applies(cells)
    for group, found in zip(groups(tasks), seen, strict=True):
        mine = {id(task) for task in group}
        own = [(task, cell) for task, cell in zip(tasks, cells, strict=True) if id(task) in mine]
        waiting = [(task, cell) for task, cell in own if cell.status == "partial"]
        images = root(group[0].images)
        found.check(images.name, (cell for _, cell in waiting))
        if shard or not waiting:
            continue
        pictures = _pictures(images, batches(union(group)))
        for task, cell in waiting:
            if unseen(task, cell).any():
                raise RuntimeError(f"chunks of '{cell.folder}' are missing that were said to be done")
            _conclude(Reader(task, cell, meter), pictures)


def _is_left(unit: Unit, there: Sequence[set[int] | None]) -> bool:
    """Whether a chunk of the unit is not done; `there` are those that are, None for a cell that is concluded."""
    return any((found := there[task]) is not None and chunk not in found for task, chunk in unit.chunks)


def _reading_seconds(tasks: Sequence[Task], meter: Meter) -> float:
    """What is left of the estimate without concluding and the report."""
    costs = [meter.estimate.cost(task.classifier.name, name_of(task.instrument)) for task in tasks]
    after = sum(cost.end(len(task.wanted)) + cost.draw for task, cost in zip(tasks, costs, strict=True))
    return max(meter.total - after - meter.estimate.finish, 0.0)


def _pictures(images: ImageSet, parts: Sequence[Positions]) -> Pictures:
    return Pictures(images, parts, small=sum(map(len, parts)) <= Pictures.SMALL)


def _check_applies(cells: Sequence[Cell]) -> None:
    """Raise CueError where no instrument can be asked."""
    if cells and all(cell.concluded and cell.why for cell in cells):
        raise none_applies(cell.why for cell in cells)


def none_applies(reasons: Iterable[str]) -> CueError:
    """The error of an audit in which no instrument can be asked."""
    found = "none of the instruments asked for applies here: " + "; ".join(sorted(set(reasons)))
    return CueError(found, wanted="at least one that does", do="see `cuescope list instruments` for what each needs")


def _conclude(reader: Reader, pictures: Pictures) -> None:
    """From the rows on disk to a finding with its images."""
    task, cell, tool, meter = reader.task, reader.cell, reader.task.instrument, reader.meter
    try:
        meter.begin(f"concluding {reader.name}", reader.cost.end(len(task.wanted)))
        with timed(cell):
            rows = cell.rows(tool)
            about = replace(task.about(cell.facts), large=cell.large(tool))
            said = tool.conclude(rows, about)
            finding, rows = tool.finding(said, about), tool.with_outcomes(rows, said)
            if tool.concluded:
                cell.chunks.write_outcomes(tool.outcomes(said))
            chosen = set(tool.examples(rows))
            numbers = [i for i in task.wanted if task.images.id(i) in chosen] if chosen else []
            meter.begin(f"drawing {reader.name}", reader.cost.draw)
            if found := pictures.of(task.classifier, task.images, numbers):
                batch = task.batch(*found)
                shown = tool.rows_to_show(rows, batch.ids)
                finding = finding.with_panels(tuple(tool.illustrate(task.classifier, batch, shown)))
            cell.write_finding(finding)
    except CueError:
        raise
    except RAISED:
        cell.fail(traceback.format_exc())
