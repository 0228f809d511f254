"""Instruments x classifiers x image sets in one pass: each image is decoded once, each clean forward shared."""

from __future__ import annotations

import itertools
import random
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import polars as pl

from cuescope.classifier.classifier import Classifier, Watch
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Batch, ImageSet, Sample, Skipped
from cuescope.instruments.base import Illustrates, Instrument, Reduces, Watches
from cuescope.instruments.registry import name_of, source_digest
from cuescope.runs.store import Cell, Run, timed

CHUNK = 256
"""Images a chunk: what is lost at most when a run is killed, and the rows of one Parquet file."""
BATCH = 32
"""Images decoded and shown together. Chunks hold whole batches, so a resumed run sees the same batches."""

Indices = range | frozenset[int]

Progress = Callable[[int, int, str], None]
"""Called with images done, images in all, and what is being worked on."""


@dataclass(frozen=True, eq=False)
class Task:
    """One instrument to be read on one classifier and one image set."""

    classifier: Classifier
    images: ImageSet
    instrument: Instrument
    place: tuple[int, ...] = ()
    """For each label of the images, the classifier's logit that stands for it (see classes.align)."""
    peers: tuple[Classifier, ...] = ()
    """Other classifiers that the instrument asks for (see Instrument)."""

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
            "params": asdict(cast(Any, self.instrument)),
            "source": source_digest(self.instrument),
            "chunk": CHUNK,
            "batch": BATCH,
        }

    @property
    def wanted(self) -> Indices:
        """The images the instrument looks at: all, or as many as its field `images` says, one of each equal part.

        Which one of a part is drawn from a fixed seed: equal steps could meet the same class each time.
        """
        total, bound = len(self.images), getattr(self.instrument, "images", None)
        if bound is None or bound >= total:
            return range(total)
        draw = random.Random(0)
        return frozenset(draw.randrange(i * total // bound, (i + 1) * total // bound) for i in range(bound))

    def labels(self, samples: Sequence[Sample]) -> list[int] | None:
        """Labels in the classifier's own class space, -1 where it has none."""
        if not self.place:
            return None
        return [-1 if sample.label is None else self.place[sample.label] for sample in samples]

    def all_labels(self, samples: Sequence[Sample]) -> tuple[tuple[int, ...], ...]:
        """All labels that are right, as far as the classifier has them."""
        if not self.place:
            return ()
        return tuple(tuple(k for i in sample.labels if (k := self.place[i]) >= 0) for sample in samples)


def run(tasks: Sequence[Task], out: Run, *, workers: int = 2, progress: Progress | None = None) -> list[Cell]:
    """Read every instrument of the tasks and conclude; the cells, in the order of the tasks.

    A failing instrument is recorded in its cell and the others go on. Chunks that are already in the run
    folder are not done again. Raises CueError where an image set has no readable image.
    """
    cells = {id(task): out.cell(task.identity) for task in tasks}
    open_tasks = [task for task in tasks if not (cells[id(task)].folder / "finding.json").is_file()]
    for task in open_tasks:
        cells[id(task)].forget_failure()
    by_set: dict[int, list[Task]] = defaultdict(list)
    for task in open_tasks:
        by_set[id(task.images)].append(task)
    for group in by_set.values():
        _Pass(group, cells, out, workers, progress or (lambda *_: None)).run()
    for task in open_tasks:
        cell = cells[id(task)]
        if cell.status != "failed":
            if progress:
                progress(0, 0, f"concluding {name_of(task.instrument)} of {task.classifier.name}")
            _conclude(task, cell, len(task.images))
    for task in tasks:
        cell = cells[id(task)]
        if cell.status != "failed" and (finding := cell.finding):
            cell.status, cell.why = ("not applicable", finding.why) if finding.why else ("done", "")
    return [cells[id(task)] for task in tasks]


@dataclass(eq=False)
class _Pass:
    """One pass over one image set for all tasks on it."""

    tasks: list[Task]
    cells: dict[int, Cell]
    out: Run
    workers: int
    progress: Progress

    def run(self) -> None:
        images = self.tasks[0].images
        wanted = {id(task): task.wanted for task in self.tasks}
        chunks = [(c, todo) for c in range(-(-len(images) // CHUNK)) if (todo := self._todo(c, wanted))]
        groups = [(c, todo, group) for c, todo in chunks for group in _groups(c, todo, wanted, len(images))]
        total = sum(len(group) for _, _, group in groups)
        done = readable = 0
        first: Skipped | None = None
        self.progress(0, total, images.name)
        stream = images.stream([group for _, _, group in groups], self.workers)
        for chunk, parts in itertools.groupby(zip(groups, stream, strict=True), key=lambda item: item[0][0]):
            rows: dict[int, list[pl.DataFrame]] = defaultdict(list)
            lost: list[Skipped] = []
            todo: list[Task] = []
            for (_, todo, group), (samples, skipped) in parts:
                lost += skipped
                first = first or next(iter(skipped), None)
                readable += len(samples)
                for key, frame in self._observe(todo, wanted, samples):
                    rows[key].append(frame)
                done += len(group)
                self.progress(done, total, images.name)
            self.out.note_skipped(images.digest, chunk, lost)
            for task in todo:
                cell = self.cells[id(task)]
                if cell.status != "failed":
                    frames = rows.get(id(task))
                    cell.write_rows(chunk, _reduced(task.instrument, pl.concat(frames)) if frames else pl.DataFrame())
        if total and not readable and all(not cell.rows().height for cell in self._own_cells()):
            raise CueError(
                f"none of the {total} images of '{images.name}' can be read"
                + (f", such as '{first.id}': {first.why}" if first else ""),
                wanted="at least one readable image",
                do="give images that an image viewer opens",
            )

    def _own_cells(self) -> list[Cell]:
        return [self.cells[id(task)] for task in self.tasks]

    def _todo(self, chunk: int, wanted: dict[int, Indices]) -> list[Task]:
        span = range(chunk * CHUNK, (chunk + 1) * CHUNK)
        return [
            task
            for task in self.tasks
            if any(True for _ in _within(wanted[id(task)], span)) and not self.cells[id(task)].has(chunk)
        ]

    def _observe(
        self, todo: list[Task], wanted: dict[int, Indices], samples: list[tuple[int, Sample]]
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Rows of one batch. Tasks that want the same images of it share one clean forward pass."""
        shares: dict[tuple[int, tuple[int, ...]], list[Task]] = defaultdict(list)
        for task in todo:
            if self.cells[id(task)].status != "failed":
                mine = wanted[id(task)]
                picked = tuple(p for p, (index, _) in enumerate(samples) if index in mine)
                if picked:
                    shares[id(task.classifier), picked].append(task)
        for (_, picked), tasks in shares.items():
            classifier = tasks[0].classifier
            chosen = [samples[p][1] for p in picked]
            try:
                batch = _finite(classifier, classifier.see(chosen, tasks[0].labels(chosen), _watched(tasks)))
            except Exception:
                for task in tasks:
                    self.cells[id(task)].fail(traceback.format_exc())
                continue
            batch = replace(batch, all_labels=tasks[0].all_labels(chosen))
            for task in tasks:
                cell = self.cells[id(task)]
                try:
                    with timed(cell):
                        yield id(task), task.instrument.observe(classifier, replace(batch, peers=task.peers))
                except Exception:
                    cell.fail(traceback.format_exc())


def _watched(tasks: Sequence[Task]) -> list[Watch]:
    """What the clean pass of these tasks, all of one classifier, is to keep."""
    told = [task.instrument.watch(task.classifier) for task in tasks if isinstance(task.instrument, Watches)]
    return list(dict.fromkeys(itertools.chain(*told)))


def _reduced(instrument: Instrument, rows: pl.DataFrame) -> pl.DataFrame:
    return instrument.reduce(rows) if isinstance(instrument, Reduces) else rows


def _finite(classifier: Classifier, batch: Batch) -> Batch:
    """The batch, whose logits must be numbers: no instrument can say anything of NaN."""
    bad = [name for name, logits in zip(batch.ids, batch.logits, strict=True) if not logits.isfinite().all()]
    if bad:
        raise ValueError(f"{classifier.name} gives logits that are NaN or infinite, as for '{bad[0]}'")
    return batch


def _conclude(task: Task, cell: Cell, total: int) -> None:
    """From the rows on disk to a finding with its images."""
    classifier, instrument = task.classifier, task.instrument
    about = About(classifier.name, task.images.name, classifier.classes.names, classifier.classes.name)
    try:
        with timed(cell):
            rows = cell.rows(instrument.reduce if isinstance(instrument, Reduces) else None)
            finding = instrument.conclude(rows, about)
            if isinstance(instrument, Illustrates) and rows.height:
                finding = finding.with_panels(_illustrate(task, rows, total))
        cell.write_finding(finding)
    except CueError:
        raise
    except Exception:
        cell.fail(traceback.format_exc())


def _illustrate(task: Task, rows: pl.DataFrame, total: int) -> tuple[Any, ...]:
    illustrates = cast(Illustrates, task.instrument)
    chosen = set(illustrates.examples(rows))
    samples = [task.images.read(i) for i in range(total) if task.images.id(i) in chosen]
    if not samples:
        return ()
    batch = task.classifier.see(samples, task.labels(samples))
    batch = replace(batch, all_labels=task.all_labels(samples), peers=task.peers)
    # Of reduced rows, which are few, all: what is shown may depend on more than the rows of the shown images.
    theirs = rows if isinstance(task.instrument, Reduces) else rows.filter(pl.col("id").is_in(chosen))
    return tuple(illustrates.illustrate(task.classifier, batch, theirs))


def _groups(chunk: int, todo: list[Task], wanted: dict[int, Indices], total: int) -> Iterator[list[int]]:
    """The batches of a chunk, each with only the indices that some task still wants. Never none of them."""
    union: set[int] = set()
    for task in todo:
        union.update(_within(wanted[id(task)], range(chunk * CHUNK, (chunk + 1) * CHUNK)))
    for start in range(chunk * CHUNK, min((chunk + 1) * CHUNK, total), BATCH):
        group = [i for i in range(start, start + BATCH) if i in union]
        if group:
            yield group


def _within(indices: Indices, span: range) -> Iterator[int]:
    if isinstance(indices, range):
        yield from range(max(indices.start, span.start), min(indices.stop, span.stop))
    else:
        yield from (i for i in span if i in indices)
