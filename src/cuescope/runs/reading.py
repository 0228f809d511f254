"""Files are decoded once, each clean forward pass is run once, and instruments that want them get the images."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from cuescope.core.errors import RAISED, CueError
from cuescope.core.naming import short_name
from cuescope.data.derived import derived
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
from cuescope.runs.units import Positions


def started(task: Task, cell: Cell, meter: Meter) -> Reader:
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
    except RAISED:
        cell.fail(traceback.format_exc())
    if not reader.works:
        reader.drop()
    return reader


class Seen(NamedTuple):
    """What came of reading images."""

    total: int = 0
    readable: int = 0
    lost: Skipped | None = None
    """The first that could not be read."""

    def __add__(self, other: Seen) -> Seen:  # pyright: ignore[reportIncompatibleMethodOverride] - as numbers are added
        return Seen(self.total + other.total, self.readable + other.readable, self.lost or other.lost)

    def check(self, images: str, cells: Iterable[Cell]) -> None:
        """Raise CueError where none was readable, and none has been before."""
        if self.total and not self.readable and all(not cell.rows().height for cell in cells):
            raise CueError(
                f"none of the {self.total} images of '{images}' can be read"
                + (f", such as '{self.lost.id}': {self.lost.why}" if self.lost else ""),
                wanted="at least one readable image",
                do="give images that an image viewer opens",
            )


@dataclass(eq=False)
class Reading:
    """Files of one image set are decoded and shown, for all tasks on it and on sets that are derived from it."""

    images: ImageSet
    """The set whose files are decoded."""
    readers: list[Reader]
    """The tasks at work."""
    out: Run
    meter: Meter
    workers: int | None = None
    pictures: Pictures | None = None
    """Keeps what findings may show, where this process draws them."""
    unit: int | None = None
    """The unit that it is, by its number; None for all images."""

    def run(self, batches: Sequence[Positions]) -> Seen:
        """Read the images of those of these batches in which any reader wants some."""
        try:
            return self._read(batches)
        except BaseException:
            # Whatever stops it, full batches are not lost: the disk may be full, though.
            with suppress(CueError):
                for reader in self.readers:
                    reader.keep()
            raise

    def _read(self, batches: Sequence[Positions]) -> Seen:
        images, lost = self.images, None
        needed = [g for g in batches if any(True for reader in self.readers for _ in reader.within(g[0], g[-1]))]
        total, done, readable = sum(map(len, needed)), 0, 0
        decode = self.meter.estimate.decode.get(images.name, 0.0)
        stream = images.stream([group.tolist() for group in needed], self.workers)
        self.meter.begin(f"reading {images.name}", decode * len(needed[0]) if needed else 0.0, 0, total)
        for number, (group, (samples, skipped)) in enumerate(zip(needed, stream, strict=True), 1):
            lost = lost or next(iter(skipped), None)
            readable += len(samples)
            check_reach(images, len(samples), skipped)
            self._show(group, dict(samples), {s.id: s for s in skipped})
            done += len(group)
            following = decode * len(needed[number]) if number < len(needed) else 0.0
            self.meter.begin(f"reading {images.name}", following, done, total)
        return Seen(total, readable, lost)

    def _show(self, group: Positions, samples: dict[int, Sample], skipped: dict[str, Skipped]) -> None:
        """Show the images of one batch to each classifier, and hand them to the tasks that want them."""
        places = {position: at for at, position in enumerate(samples)}
        low, high = int(group[0]), int(group[-1])
        # By the digest of the set that they are missing from.
        lost: dict[str, dict[str, Skipped]] = defaultdict(dict)
        # Other processes write other files.
        name = low // sizes.CHUNK if self.unit is None else self.unit
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
            except RAISED:
                for reader, _ in wanting:
                    reader.fail()
                continue
            if seen is not None and self.pictures:
                self.pictures.keep(classifier, samples, seen)
            # Single images of this batch, each copied once however many tasks wait for it.
            single = cache(lambda batch, at: batch.select([at]) if len(batch) > 1 else batch)
            found = [
                [self._sample(reader.task, k, samples, skipped, lost[reader.task.images.digest]) for k in numbers]
                for reader, numbers in wanting
            ]
            # Before any rows: what is in a chunk is never decoded again, whatever stops it here.
            for digest, missing in lost.items():
                self.out.note_skipped(digest, name, missing.values())
            for (reader, numbers), own in zip(wanting, found, strict=True):
                for number, sample in zip(numbers, own, strict=True):
                    reader.take(seen, places.get(int(reader.task.positions[number])), sample, number)
                reader.pack = [(single(batch, at), 0, sample) for batch, at, sample in reader.pack]

    def _sample(
        self,
        task: Task,
        number: int,
        samples: dict[int, Sample],
        skipped: dict[str, Skipped],
        lost: dict[str, Skipped],
    ) -> Sample | None:
        """The sample as the task's set has it, or None where it cannot be used there, which is noted in `lost`."""
        name = task.images.id(task.wanted[number])
        if (sample := samples.get(int(task.positions[number]))) is None:
            lost |= {name: skipped[name]} if name in skipped else {}
            return None
        try:
            return derived(task.images, sample)
        except UnreadableError as error:
            lost[sample.id] = Skipped(name, str(error), isinstance(error, OutOfReachError))
            return None
