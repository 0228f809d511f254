"""One task at work: the images it wants, its batches, and the rows it writes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from cuescope.core.errors import RAISED
from cuescope.core.naming import short_name
from cuescope.data.derived import with_another
from cuescope.data.images import Batch, Sample
from cuescope.instruments.base import Observer, name_of
from cuescope.runs import task as sizes
from cuescope.runs.cell import Cell, timed
from cuescope.runs.estimate import Cost, Meter, Work
from cuescope.runs.task import Task

KEEP_S = 15.0
"""Seconds after which what was observed of an unfinished chunk is written."""


def unseen(task: Task, cell: Cell, only: int | None = None) -> np.ndarray[Any, Any]:
    """Which of the wanted images, or those of one chunk, are still to be seen, (n,) bool: no chunk on disk has them."""
    numbers = numbers_of(task, only)
    found, first = np.ones(len(numbers), dtype=bool), numbers.start
    for at in range(0, len(found), sizes.CHUNK):
        if cell.chunks.has((first + at) // sizes.CHUNK):
            found[at : at + sizes.CHUNK] = False
    for chunk, (images, _) in begun(task, cell, only).items():
        found[chunk * sizes.CHUNK - first :][:images] = False
    return found


def begun(task: Task, cell: Cell, only: int | None = None) -> dict[int, tuple[int, pl.DataFrame]]:
    """What was kept of unfinished chunks: how many of their images were seen, and the rows.

    Nothing of a chunk that was seen to its end, as earlier versions could leave it: nothing would come by to finish it.
    """
    kept = cell.chunks.begun(only)
    return {chunk: of for chunk, of in kept.items() if of[0] < len(numbers_of(task, chunk))}


def numbers_of(task: Task, chunk: int | None) -> range:
    """The wanted images, by their number: those of a chunk, or all."""
    total = len(task.wanted)
    return range(total) if chunk is None else range(chunk * sizes.CHUNK, min((chunk + 1) * sizes.CHUNK, total))


@dataclass(eq=False)
class Reader:
    """One task at work: it takes the images it wants as they come by, packs them into batches, and writes chunks."""

    task: Task
    cell: Cell
    meter: Meter
    observer: Observer | None = None
    only: int | None = None
    """The chunk that it reads; None for all."""
    pack: list[tuple[Batch, int, Sample]] = field(default_factory=list)
    """Images that wait for the batch to be full: each a place in a batch that was seen, and the sample of this set."""
    observed: tuple[int, tuple[pl.DataFrame, ...]] = (0, ())
    """Images of the set up to the end of the last full batch, and the rows of the unfinished chunk. They are one value,
    since an interrupt may come between two.
    """
    kept_s: float = field(default_factory=time.monotonic)
    """When rows were last written."""

    @property
    def works(self) -> bool:
        return self.observer is not None and self.cell.status != "failed"

    @property
    def name(self) -> str:
        return f"{name_of(self.task.instrument)} of {short_name(self.task.classifier.name)}"

    @property
    def cost(self) -> Cost:
        return self.meter.estimate.cost(self.task.classifier.name, name_of(self.task.instrument))

    @cached_property
    def begun(self) -> dict[int, pl.DataFrame]:
        """Rows of unfinished chunks that an earlier run has kept."""
        return {chunk: rows for chunk, (_, rows) in begun(self.task, self.cell, self.only).items()}

    @cached_property
    def numbers(self) -> range:
        """The images that it reads, by their number among the wanted ones."""
        return numbers_of(self.task, self.only)

    @cached_property
    def open(self) -> np.ndarray[Any, Any]:
        """Of each of `numbers`, whether it is still to be seen."""
        return unseen(self.task, self.cell, self.only)

    def within(self, low: int, high: int) -> Iterator[int]:
        """Which of the wanted images, by their number, lie from `low` to `high` in the decoded set and are open."""
        first, end = np.searchsorted(self.task.positions, [low, high + 1])
        start, stop = self.numbers.start, self.numbers.stop
        return (k for k in range(max(first, start), min(end, stop)) if self.open[k - start])

    def take(self, seen: Batch | None, at: int | None, sample: Sample | None, number: int) -> None:
        """The image of this number came by: at a place of a batch, or it was lost. Full packs are observed."""
        if seen is not None and at is not None and sample is not None:
            self.pack.append((seen, at, sample))
        last = number + 1 == len(self.task.wanted)
        if (number + 1) % sizes.BATCH and not last:
            return
        rows = self._observe(number + 1)
        if not self.works:
            self.observed = number + 1, ()
            return
        self.observed = number + 1, (*self.observed[1], *rows)
        if (number + 1) % sizes.CHUNK == 0 or last:
            self._finish(number // sizes.CHUNK)
            self.observed = number + 1, ()
        elif time.monotonic() - self.kept_s > KEEP_S:
            self.keep()

    def keep(self) -> None:
        """Write what was observed of the unfinished chunk; all of it, if it was stopped while it was written."""
        seen, frames = self.observed
        chunk, images = divmod(seen, sizes.CHUNK)
        if frames and self.works:
            if images and seen < len(self.task.wanted):
                self.cell.chunks.keep(chunk, images, self._rows(chunk))
            else:
                self._finish((seen - 1) // sizes.CHUNK)
        self.kept_s = time.monotonic()

    def _finish(self, chunk: int) -> None:
        self.cell.chunks.write(chunk, self.task.instrument.reduce(self._rows(chunk)))

    def drop(self) -> None:
        """Nothing more comes of it: what was estimated is not waited for."""
        left = int(self.open[max(self.observed[0] - self.numbers.start, 0) :].sum())
        work = Work(("", ""), self.cost, len(self.task.wanted), left)
        self.meter.drop(work.seconds - self.cost.start)

    def _rows(self, chunk: int) -> pl.DataFrame:
        """The rows of the unfinished chunk, those of an earlier run first."""
        frames = [*([self.begun[chunk]] if chunk in self.begun else []), *self.observed[1]]
        return pl.concat(frames) if frames else self.task.instrument.empty

    def _observe(self, number: int) -> list[pl.DataFrame]:
        """The rows of the images that wait; none where there is no image, or the instrument fails."""
        pack, self.pack = self.pack, []
        if not pack or not self.works or self.observer is None:
            return []
        try:
            count = len(self.task.wanted)
            self.meter.begin(self.name, self.cost.each * len(pack), number - len(pack), count)
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
                return [self.observer.observe(batch)]
        except RAISED:
            self.fail()
            return []

    def fail(self) -> None:
        self.cell.fail(traceback.format_exc())
        self.drop()
