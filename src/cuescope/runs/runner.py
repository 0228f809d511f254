"""Instruments x classifiers x image sets: each file is decoded once, each clean forward pass is run once for all."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cuescope.core.errors import CueError
from cuescope.core.naming import short_name
from cuescope.data.derived import derived, root
from cuescope.data.images import ImageSet, OutOfReachError, Sample, Skipped, UnreadableError
from cuescope.instruments.base import Misfit
from cuescope.runs import task as sizes
from cuescope.runs.cell import Cell, timed
from cuescope.runs.estimate import Meter
from cuescope.runs.pictures import Pictures
from cuescope.runs.reach import check_reach
from cuescope.runs.reader import Reader
from cuescope.runs.store import Run
from cuescope.runs.task import Task


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
            (cell.folder / "error.txt").unlink(missing_ok=True)
            readers.append(_started(task, cell, meter))
    if cells and all(cell.concluded and cell.why for cell in cells):
        raise none_applies(cell.why for cell in cells)
    for group in groups(tasks, cells):
        mine = {id(task) for task in group}
        working = [reader for reader in readers if id(reader.task) in mine and reader.works]
        if working:
            _Pass(group, working, out, workers, meter).run()
    return cells


def groups(tasks: Sequence[Task], cells: Sequence[Cell]) -> list[list[Task]]:
    """The tasks that read the same files. Finished ones too: a run that goes on is to see the same batches."""
    by_root: dict[int, list[Task]] = defaultdict(list)
    for task, cell in zip(tasks, cells, strict=True):
        if not (cell.concluded and cell.status == "not applicable"):
            by_root[id(root(task.images))].append(task)
    return list(by_root.values())


def batches(tasks: Sequence[Task]) -> list[np.ndarray[Any, Any]]:
    """The images that are decoded and shown together, as positions in the set whose files are decoded."""
    union = np.unique(np.concatenate([task.positions for task in tasks]))
    return np.split(union, range(sizes.BATCH, len(union), sizes.BATCH))


def none_applies(reasons: Iterable[str]) -> CueError:
    """The error of an audit in which no instrument can be asked."""
    found = "none of the instruments asked for applies here: " + "; ".join(sorted(set(reasons)))
    return CueError(found, wanted="at least one that does", do="see `cuescope list instruments` for what each needs")


def _started(task: Task, cell: Cell, meter: Meter) -> Reader:
    """The instrument, ready for its first batch; one that does not fit says so in its cell."""
    observer = None
    reader = Reader(task, cell, meter)
    try:
        meter.begin(f"starting {reader.name}", reader.cost.start)
        with timed(cell):
            reader.observer = observer = task.instrument.start(task.classifier)
        if observer.facts:
            cell.write_facts(observer.facts)
    except Misfit as misfit:
        cell.write_finding(task.inapplicable(str(misfit)))
    except CueError:
        raise
    except Exception:
        cell.fail(traceback.format_exc())
    if not reader.works:
        reader.drop()
    return reader


@dataclass(eq=False)
class _Pass:
    """One pass over the files of one image set, for all tasks on it and on sets that are derived from it."""

    tasks: Sequence[Task]
    """All, finished ones too: they say which images make a batch."""
    readers: list[Reader]
    """Those at work."""
    out: Run
    workers: int | None
    meter: Meter

    @property
    def images(self) -> ImageSet:
        """The set whose files are decoded."""
        return root(self.tasks[0].images)

    def run(self) -> None:
        parts = batches(self.tasks)
        pictures = Pictures(self.images, parts, small=sum(map(len, parts)) <= Pictures.SMALL)
        try:
            self._read(parts, pictures)
        except BaseException:
            # Whatever stops it, full batches are not lost: the disk may be full, though.
            with suppress(CueError):
                for reader in self.readers:
                    reader.keep()
            raise
        for reader in self.readers:
            if reader.works:
                _conclude(reader, pictures)

    def _read(self, batches: list[np.ndarray[Any, Any]], pictures: Pictures) -> None:
        images = self.images
        needed = [g for g in batches if any(True for reader in self.readers for _ in reader.within(g[0], g[-1]))]
        total, done, readable = sum(map(len, needed)), 0, 0
        first: Skipped | None = None
        decode = self.meter.estimate.decode.get(images.name, 0.0)
        stream = images.stream([group.tolist() for group in needed], self.workers)
        self.meter.begin(f"reading {images.name}", decode * len(needed[0]) if needed else 0.0, 0, total)
        for number, (group, (samples, skipped)) in enumerate(zip(needed, stream, strict=True), 1):
            first = first or next(iter(skipped), None)
            readable += len(samples)
            check_reach(images, len(samples), skipped)
            self._show(group, dict(samples), {s.id: s for s in skipped}, pictures)
            done += len(group)
            following = decode * len(needed[number]) if number < len(needed) else 0.0
            self.meter.begin(f"reading {images.name}", following, done, total)
        if total and not readable and all(not reader.cell.rows().height for reader in self.readers):
            raise CueError(
                f"none of the {total} images of '{images.name}' can be read"
                + (f", such as '{first.id}': {first.why}" if first else ""),
                wanted="at least one readable image",
                do="give images that an image viewer opens",
            )

    def _show(
        self, group: np.ndarray[Any, Any], samples: dict[int, Sample], skipped: dict[str, Skipped], pictures: Pictures
    ) -> None:
        """Show the images of one batch to each classifier, and hand them to the tasks that want them."""
        places = {position: at for at, position in enumerate(samples)}
        low, high = int(group[0]), int(group[-1])
        # By the digest of the set that they are missing from, and the chunk.
        lost: dict[tuple[str, int], dict[str, Skipped]] = defaultdict(dict)
        by_classifier: dict[int, list[Reader]] = defaultdict(list)
        for reader in self.readers:
            if reader.works:
                by_classifier[id(reader.task.classifier)].append(reader)
        for readers in by_classifier.values():
            classifier = readers[0].task.classifier
            wanting = [(reader, numbers) for reader in readers if (numbers := list(reader.within(low, high)))]
            if not wanting:
                continue
            watch = dict.fromkeys(w for reader, _ in wanting if reader.observer for w in reader.observer.watch)
            clean = self.meter.estimate.clean.get((classifier.name, self.images.name), 0.0)
            self.meter.begin(f"clean pass of {short_name(classifier.name)}", clean * len(samples))
            try:
                seen = classifier.see(list(samples.values()), None, list(watch)) if samples else None
            except Exception:
                for reader, _ in wanting:
                    reader.fail()
                continue
            if seen is not None:
                pictures.keep(classifier, samples, seen)
            # Single images of this batch, each copied once however many tasks wait for it.
            single = cache(lambda batch, at: batch.select([at]) if len(batch) > 1 else batch)
            for reader, numbers in wanting:
                for number in numbers:
                    position = int(reader.task.positions[number])
                    missing = lost[reader.task.images.digest, low // sizes.CHUNK]
                    sample = self._sample(reader.task, number, samples.get(position), skipped, missing)
                    reader.take(seen, places.get(position), sample, number)
                reader.pack = [(single(batch, at), 0, sample) for batch, at, sample in reader.pack]
        for (digest, chunk), found in lost.items():
            self.out.note_skipped(digest, chunk, found.values())

    def _sample(
        self, task: Task, number: int, sample: Sample | None, skipped: dict[str, Skipped], lost: dict[str, Skipped]
    ) -> Sample | None:
        """The sample as the task's set has it, or None where it cannot be used there, which is noted in `lost`."""
        name = task.images.id(task.wanted[number])
        if sample is None:
            lost |= {name: skipped[name]} if name in skipped else {}
            return None
        try:
            return derived(task.images, sample)
        except UnreadableError as error:
            lost[sample.id] = Skipped(name, str(error), isinstance(error, OutOfReachError))
            return None


def _conclude(reader: Reader, pictures: Pictures) -> None:
    """From the rows on disk to a finding with its images."""
    task, cell, tool, meter = reader.task, reader.cell, reader.task.instrument, reader.meter
    try:
        meter.begin(f"concluding {reader.name}", reader.cost.end(len(task.wanted)))
        with timed(cell):
            rows = cell.rows(tool)
            about = task.about(cell.facts)
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
    except Exception:
        cell.fail(traceback.format_exc())
