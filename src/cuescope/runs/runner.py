"""Instruments x classifiers x image sets: each file is decoded once, each clean forward pass is run once for all."""

from __future__ import annotations

import random
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.files import write_json
from cuescope.core.findings import About, Conclusion, Finding
from cuescope.core.progress import Progress, quiet
from cuescope.core.verdicts import Verdict
from cuescope.data.derived import derived, root, root_position, with_another
from cuescope.data.images import Batch, ImageSet, Sample, Skipped, UnreadableError
from cuescope.instruments.base import Instrument, Misfit, Observer, name_of
from cuescope.instruments.registry import source_digest
from cuescope.runs.pictures import Pictures
from cuescope.runs.store import Cell, Run, timed

CHUNK = 256
"""Images a chunk: what is lost at most when a run is killed, and the rows of one Parquet file."""
BATCH = 32
"""Images decoded and shown together. Chunks hold whole batches, so a resumed run sees the same batches."""


@dataclass(frozen=True, eq=False)
class Task:
    """One instrument to be read on one classifier and one image set."""

    classifier: Classifier
    images: ImageSet
    instrument: Instrument
    place: tuple[int, ...] = ()
    """For each label of the images, the classifier's logit that stands for it (see classes.align)."""
    peers: tuple[Classifier, ...] = ()
    """Other classifiers that the instrument asks for (see Instrument.peers)."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the rows depend on."""
        peers = {"peers": [[peer.name, peer.digest] for peer in self.peers]} if self.peers else {}
        return {
            **peers,
            "classifier": self.classifier.name,
            "classifier_digest": self.classifier.digest,
            "images": self.images.name,
            "images_digest": self.images.digest,
            "instrument": name_of(self.instrument),
            "version": self.instrument.version,
            "params": asdict(self.instrument),
            "source": source_digest(self.instrument),
            "chunk": CHUNK,
            "batch": BATCH,
        }

    @property
    def answers(self) -> np.ndarray[Any, Any]:
        """What the classifier and its peers give for the images that they were tried on."""
        return np.concatenate([one.answers.numpy().ravel() for one in (self.classifier, *self.peers)])

    @cached_property
    def wanted(self) -> Sequence[int]:
        """The images the instrument looks at: all, or as many as its field `images` says, one of each equal part.

        Which one of a part is drawn from a fixed seed: equal steps could meet the same class each time.
        """
        total, bound = len(self.images), getattr(self.instrument, "images", None)
        if bound is None or bound >= total:
            return range(total)
        draw = random.Random(0)
        return [draw.randrange(i * total // bound, (i + 1) * total // bound) for i in range(bound)]

    @cached_property
    def positions(self) -> np.ndarray[Any, Any]:
        """Where the wanted images lie in the set whose files are decoded; increasing."""
        return np.array([root_position(self.images, i) for i in self.wanted], dtype=np.int64)

    def batch(self, seen: Batch, samples: Sequence[Sample]) -> Batch:
        """The batch as the instrument gets it: its samples, and labels in the classifier's own class space."""
        labels, several = seen.labels, ()
        if self.place:
            known = [-1 if sample.label is None else self.place[sample.label] for sample in samples]
            labels = labels.new_tensor(known)
            several = tuple(tuple(k for i in s.labels if (k := self.place[i]) >= 0) for s in samples)
        return replace(seen, samples=tuple(samples), labels=labels, all_labels=several, peers=self.peers)

    def about(self, facts: Mapping[str, Any]) -> About:
        space = self.classifier.classes
        return About(self.classifier.name, self.images.name, space.names, space.name, facts)

    def inapplicable(self, why: str) -> Finding:
        """The finding that says why the instrument cannot be asked here."""
        said = Conclusion(verdict=Verdict("does not apply", f"Does not apply: {why}."))
        return replace(self.instrument.finding(said, self.about({})), why=why)


def run(
    tasks: Sequence[Task],
    out: Run,
    cells: Sequence[Cell] = (),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sequence[Cell]:
    """Read every instrument of the tasks and conclude; the cells, in the order of the tasks.

    A failing instrument is recorded in its cell and the others go on. Chunks that are in the run folder are not done
    again. Raises CueError where an image set has no readable image, and for parameters that do not fit a classifier.
    """
    show = progress or quiet
    cells = cells or [out.cell(task.identity, task.answers) for task in tasks]
    readers = []
    for task, cell in zip(tasks, cells, strict=True):
        if not cell.concluded:
            (cell.folder / "error.txt").unlink(missing_ok=True)
            readers.append(_started(task, cell))
    if cells and all(cell.concluded and cell.why for cell in cells):
        raise none_applies(cell.why for cell in cells)
    by_root: dict[int, list[Task]] = defaultdict(list)
    for task, cell in zip(tasks, cells, strict=True):
        # Also of what is finished: a run that goes on is to see the same batches.
        if not (cell.concluded and cell.status == "not applicable"):
            by_root[id(root(task.images))].append(task)
    for group in by_root.values():
        mine = {id(task) for task in group}
        working = [reader for reader in readers if id(reader.task) in mine and reader.works]
        if working:
            _Pass(group, working, out, workers, show).run()
    return cells


def none_applies(reasons: Iterable[str]) -> CueError:
    """The error of an audit in which no instrument can be asked."""
    found = "none of the instruments asked for applies here: " + "; ".join(sorted(set(reasons)))
    return CueError(found, wanted="at least one that does", do="see `cuescope list instruments` for what each needs")


def _started(task: Task, cell: Cell) -> _Reader:
    """The instrument, ready for its first batch; one that does not fit says so in its cell."""
    observer = None
    try:
        with timed(cell):
            observer = task.instrument.start(task.classifier)
        if observer.facts:
            write_json(cell.folder / "facts.json", observer.facts)
    except Misfit as misfit:
        cell.write_finding(task.inapplicable(str(misfit)))
    except CueError:
        raise
    except Exception:
        cell.fail(traceback.format_exc())
    return _Reader(task, cell, observer)


@dataclass(eq=False)
class _Reader:
    """One task at work: it takes the images it wants as they come by, packs them into batches, and writes chunks."""

    task: Task
    cell: Cell
    observer: Observer | None
    pack: list[tuple[Batch, int, Sample]] = field(default_factory=list)
    """Images that wait for the batch to be full: each a place in a batch that was seen, and the sample of this set."""
    frames: list[pl.DataFrame] = field(default_factory=list)

    @property
    def works(self) -> bool:
        return self.observer is not None and self.cell.status != "failed"

    @cached_property
    def open(self) -> np.ndarray[Any, Any]:
        """Which of the wanted images are still to be seen: those of chunks that are not there, (n,) bool."""
        chunks = -(-len(self.task.wanted) // CHUNK)
        missing = np.array([not self.cell.has(chunk) for chunk in range(chunks)], dtype=bool)
        return missing[np.arange(len(self.task.wanted)) // CHUNK]

    def within(self, low: int, high: int) -> Iterator[int]:
        """Which of the wanted images, by their number, lie from `low` to `high` in the decoded set and are open."""
        first, end = np.searchsorted(self.task.positions, [low, high + 1])
        return (k for k in range(first, end) if self.open[k])

    def take(self, seen: Batch | None, at: int | None, sample: Sample | None, number: int) -> None:
        """The image of this number came by: at a place of a batch, or it was lost. Full packs are observed."""
        if seen is not None and at is not None and sample is not None:
            self.pack.append((seen, at, sample))
        last = number + 1 == len(self.task.wanted)
        if (number + 1) % BATCH == 0 or last:
            self._observe()
        if self.works and ((number + 1) % CHUNK == 0 or last):
            rows = pl.concat(self.frames) if self.frames else self.task.instrument.empty
            self.cell.write_rows(number // CHUNK, self.task.instrument.reduce(rows))
            self.frames = []

    def _observe(self) -> None:
        pack, self.pack = self.pack, []
        if not pack or not self.works or self.observer is None:
            return
        try:
            first, places = pack[0][0], [at for _, at, _ in pack]
            if any(seen is not first for seen, _, _ in pack):
                packed = Batch.join([seen if len(seen) == 1 else seen.select([at]) for seen, at, _ in pack])
            else:  # Without a copy where the images are one batch already.
                packed = first if places == list(range(len(first))) else first.select(places)
            samples = [sample for _, _, sample in pack]
            samples = with_another(samples) if "another" in self.task.instrument.needs else samples
            batch = self.task.batch(packed, samples)
            finite = zip(batch.ids, batch.logits.isfinite().all(1).tolist(), strict=True)
            if bad := [name for name, known in finite if not known]:
                name = self.task.classifier.name
                raise ValueError(f"{name} gives logits that are NaN or infinite, as for '{bad[0]}'")
            with timed(self.cell):
                self.frames.append(self.observer.observe(batch))
        except Exception:
            self.cell.fail(traceback.format_exc())


@dataclass(eq=False)
class _Pass:
    """One pass over the files of one image set, for all tasks on it and on sets that are derived from it."""

    tasks: Sequence[Task]
    """All, finished ones too: they say which images make a batch."""
    readers: list[_Reader]
    """Those at work."""
    out: Run
    workers: int | None
    progress: Progress

    def run(self) -> None:
        images = root(self.tasks[0].images)
        union = np.unique(np.concatenate([task.positions for task in self.tasks]))
        batches = np.split(union, range(BATCH, len(union), BATCH))
        pictures = Pictures(images, batches, small=len(union) <= Pictures.SMALL)
        self._read(images, batches, pictures)
        for reader in self.readers:
            if reader.works:
                self.progress(0, 0, f"concluding {name_of(reader.task.instrument)} of {reader.task.classifier.name}")
                _conclude(reader, pictures)

    def _read(self, images: ImageSet, batches: list[np.ndarray[Any, Any]], pictures: Pictures) -> None:
        needed = [g for g in batches if any(True for reader in self.readers for _ in reader.within(g[0], g[-1]))]
        total, done, readable = sum(map(len, needed)), 0, 0
        first: Skipped | None = None
        self.progress(0, total, images.name)
        stream = images.stream([group.tolist() for group in needed], self.workers)
        for group, (samples, skipped) in zip(needed, stream, strict=True):
            first = first or next(iter(skipped), None)
            readable += len(samples)
            self._show(group, dict(samples), {s.id: s for s in skipped}, pictures)
            done += len(group)
            self.progress(done, total, images.name)
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
        by_classifier: dict[int, list[_Reader]] = defaultdict(list)
        for reader in self.readers:
            if reader.works:
                by_classifier[id(reader.task.classifier)].append(reader)
        for readers in by_classifier.values():
            classifier = readers[0].task.classifier
            wanting = [(reader, numbers) for reader in readers if (numbers := list(reader.within(low, high)))]
            if not wanting:
                continue
            watch = dict.fromkeys(w for reader, _ in wanting if reader.observer for w in reader.observer.watch)
            try:
                seen = classifier.see(list(samples.values()), None, list(watch)) if samples else None
            except Exception:
                for reader, _ in wanting:
                    reader.cell.fail(traceback.format_exc())
                continue
            if seen is not None:
                pictures.keep(classifier, samples, seen)
            # Single images of this batch, each copied once however many tasks wait for it.
            single = cache(lambda batch, at: batch.select([at]) if len(batch) > 1 else batch)
            for reader, numbers in wanting:
                for number in numbers:
                    position = int(reader.task.positions[number])
                    missing = lost[reader.task.images.digest, low // CHUNK]
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
            lost[sample.id] = Skipped(name, str(error))
            return None


def _conclude(reader: _Reader, pictures: Pictures) -> None:
    """From the rows on disk to a finding with its images."""
    task, cell, tool = reader.task, reader.cell, reader.task.instrument
    try:
        with timed(cell):
            rows = cell.rows(tool)
            about = task.about(cell.facts)
            finding = tool.finding(tool.conclude(rows, about), about)
            chosen = set(tool.examples(rows))
            numbers = [i for i in task.wanted if task.images.id(i) in chosen] if chosen else []
            if found := pictures.of(task.classifier, task.images, numbers):
                batch = task.batch(*found)
                shown = tool.rows_to_show(rows, batch.ids)
                finding = finding.with_panels(tuple(tool.illustrate(task.classifier, batch, shown)))
        cell.write_finding(finding)
    except CueError:
        raise
    except Exception:
        cell.fail(traceback.format_exc())
