"""What will an audit cost? A few images are timed before it starts: plan -> trial -> estimate -> runner."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import RAISED
from cuescope.core.files import encoded
from cuescope.core.findings import Conclusion
from cuescope.data.derived import root, with_another
from cuescope.data.images import Batch, ImageSet, Sample, UnreadableError
from cuescope.instruments.base import Observer, Rows, name_of
from cuescope.runs.cell import Cell
from cuescope.runs.estimate import Cost, Estimate, Forecast, Work
from cuescope.runs.reader import unseen
from cuescope.runs.task import Task
from cuescope.runs.units import batches, groups, union

TRIED = 8
"""Images of each set that are decoded and seen."""
SHARE = 0.03
"""Of what an instrument is to observe, tried beyond its first image."""
CHEAP_S = 0.01
"""Observing one image in less than this says nothing yet: all that were seen are observed."""
AGAIN_S = 1.0
"""What took less is timed again: the first call of a network with so many images is slow."""
FEW = 40
"""Of fewer images one is a large part: an instrument is tried on one classifier and taken to cost the others as much
more or less as their clean forward passes do."""
MOST_DRAWN = 32
"""Images that a finding is taken to draw: where more are named, it draws parts of them."""
ROWS = 16, 64
"""Images whose rows are concluded from: the difference says how the time grows."""
FINISH_S, FINISH_EACH_S, COMPARED_S = 0.3, 0.02, 0.12
"""Seconds of the report, more for each cell, and for each two cells that are compared."""

T = TypeVar("T")
Clock = Callable[[], float]


def measure(tasks: Sequence[Task], workers: int | None = None, clock: Clock = time.perf_counter) -> Estimate:
    """What do the parts of these tasks cost? Leaves no trace: random states are as before, nothing is written.

    An instrument that fails, or does not fit, costs nothing here: the run says why.
    """
    started = clock()
    with _same_random_state():
        trial = _Trial(workers, clock)
        for task in tasks:
            trial.task(task)
    pairs = sum(_pairs([task for task in tasks if name_of(task.instrument) == name]) for name in _comparing(tasks))
    finish = FINISH_S + FINISH_EACH_S * len(tasks) + COMPARED_S * pairs
    return Estimate(trial.costs, trial.clean, trial.decode, finish, clock() - started)


def forecast(
    estimate: Estimate, tasks: Sequence[Task], cells: Sequence[Cell], processes: int = 1, shard: int = 0
) -> Forecast:
    """How long what is left of these tasks takes, where `cells` hold what was done before.

    It is spread over so many processes; of a `shard`, one of so many, nothing is concluded.
    """
    over = processes * (shard or 1)
    works, shared = [], 0.0
    of = {id(task): cell for task, cell in zip(tasks, cells, strict=True)}
    for group in groups(tasks):
        waiting = {id(task) for task in group if not of[id(task)].concluded}
        if not waiting:
            continue
        unseen_of = {id(t): unseen(t, of[id(t)]) if id(t) in waiting else [] for t in group}
        open_at = {id(task): task.positions[unseen_of[id(task)]] for task in group}
        parts = batches(union(group))
        images = root(group[0].images).name
        for name in {task.classifier.name for task in group}:
            mine = [open_at[id(task)] for task in group if task.classifier.name == name]
            shared += estimate.clean.get((name, images), 0.0) * _touched(parts, mine)
        shared += estimate.decode.get(images, 0.0) * _touched(parts, list(open_at.values()))
        for task in group:
            if not of[id(task)].concluded:
                key = task.classifier.name, name_of(task.instrument)
                cost = estimate.cost(*key)
                cost = replace(Cost(cost.start) if shard else cost, each=cost.each / over)
                works.append(Work(key, cost, len(task.wanted), len(open_at[id(task)])))
    return Forecast.of(works, shared / over, 0.0 if shard else estimate.finish)


def _touched(parts: Sequence[np.ndarray[Any, Any]], at: Sequence[np.ndarray[Any, Any]]) -> int:
    """Images of the batches that hold any of these positions."""
    wanted = np.unique(np.concatenate(at))
    return sum(len(part) for part in parts if np.diff(np.searchsorted(wanted, [part[0], part[-1] + 1]))[0])


def _comparing(tasks: Sequence[Task]) -> set[str]:
    return {name_of(task.instrument) for task in tasks if task.instrument.compares}


def _pairs(tasks: Sequence[Task]) -> int:
    return len(tasks) * (len(tasks) - 1) // 2


class _Tried(NamedTuple):
    """An instrument on the first classifier it was tried on."""

    classifier: str
    once: float
    """Seconds of its first image."""
    cost: Cost


@dataclass
class _Trial:
    """What was decoded, seen and timed so far."""

    workers: int | None
    clock: Clock
    costs: dict[tuple[str, str], Cost] = field(default_factory=dict)
    clean: dict[tuple[str, str], float] = field(default_factory=dict)
    decode: dict[str, float] = field(default_factory=dict)
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    """By image set."""
    seen: dict[tuple[int, int], Batch] = field(default_factory=dict)
    """By classifier and image set."""
    tried: dict[str, _Tried] = field(default_factory=dict)
    """By instrument."""

    def timed(self, work: Callable[[], T]) -> tuple[float, T]:
        start = self.clock()
        result = work()
        return self.clock() - start, result

    def task(self, task: Task) -> None:
        name, instrument = task.classifier.name, name_of(task.instrument)
        cost = Cost()
        # Whatever goes wrong here goes wrong in the run, which says what.
        with suppress(*RAISED):
            samples = self._read(task.images)
            if samples:
                cost = self._cost(task, samples)
        self.costs[name, instrument] = cost

    def _read(self, images: ImageSet) -> list[Sample]:
        """A few images of the set, evenly spread; those of its files are timed."""
        if id(images) not in self.samples:
            files = root(images)
            at = [(2 * i + 1) * len(files) // (2 * min(TRIED, len(files))) for i in range(min(TRIED, len(files)))]
            if images is not files:
                self._read(files)
            elif at:
                next(files.stream([at[:1]], self.workers))  # The first is slow.
                seconds, _ = self.timed(lambda: list(files.stream([at], self.workers)))
                self.decode[files.name] = seconds / len(at)
            self.samples[id(images)] = _few(images)
        return self.samples[id(images)]

    def _see(self, classifier: Classifier, images: ImageSet, observer: Observer) -> Batch:
        """The images as the classifier sees them, with what the instrument watches; the clean pass is timed."""
        files, samples = root(images), self._read(images)
        key = id(classifier), id(images)
        if (classifier.name, files.name) not in self.clean:
            classifier.see(samples[:1])  # The first is slow.
            seconds, self.seen[key] = self.timed(lambda: classifier.see(samples))
            self.clean[classifier.name, files.name] = seconds / len(samples)
        if key not in self.seen:
            self.seen[key] = classifier.see(samples)
        if missing := [watch for watch in observer.watch if watch not in self.seen[key].watched]:
            # In the run it is watched during the clean pass.
            self.seen[key] = replace(self.seen[key], watched=classifier.watch(self.seen[key], missing))
        return self.seen[key]

    def _cost(self, task: Task, samples: list[Sample]) -> Cost:
        tool, name = task.instrument, name_of(task.instrument)
        start, observer = self.timed(lambda: tool.start(task.classifier))
        batch = self._see(task.classifier, task.images, observer)
        samples = with_another(samples) if "another" in tool.needs else samples
        batch = task.batch(batch, samples)
        first = self.tried.get(name)
        if first:
            few = len(task.wanted) < FEW and first.cost.each > CHEAP_S
            ratio = self._clean(task.classifier.name, task) / self._clean(first.classifier, task)
            if not few:
                ratio = self.timed(lambda: observer.observe(batch.select([0])))[0] / max(first.once, 1e-9)
            return replace(first.cost, start=start, each=first.cost.each * ratio, draw=first.cost.draw * ratio)
        once, each, rows = self._observed(task, observer, batch)
        cost = Cost(start, each)
        with suppress(*RAISED):
            cost = self._concluded(task, observer, rows, cost)
        with suppress(*RAISED):
            cost = self._drawn(task, batch, rows, cost)
        self.tried[name] = _Tried(task.classifier.name, once, cost)
        return cost

    def _clean(self, classifier: str, task: Task) -> float:
        return max(self.clean.get((classifier, root(task.images).name), 1.0), 1e-9)

    def _observed(self, task: Task, observer: Observer, batch: Batch) -> tuple[float, float, Rows]:
        """Seconds of one image when it is the first, seconds an image of full batches, and rows of a few."""
        one, wanted = batch.select([0]), len(task.wanted)
        once, rows = self.timed(lambda: observer.observe(one))
        alone = self._again(once, lambda: observer.observe(one))
        share = max(int(SHARE * wanted), 2) if wanted >= FEW else 0
        count = len(batch) if alone < CHEAP_S else min(len(batch), share)
        if count < 2:
            return once, alone, rows
        few = batch.select(range(count))
        seconds, rows = self.timed(lambda: observer.observe(few))
        seconds = self._again(seconds, lambda: observer.observe(few))
        # A full batch costs less an image than a few, and no less than each further one of the few.
        most, least = seconds / count, max(seconds - alone, 0.0) / (count - 1)
        return once, (most * max(least, most / 2)) ** 0.5, rows

    def _again(self, seconds: float, work: Callable[[], Any]) -> float:
        return min(seconds, self.timed(work)[0]) if seconds < AGAIN_S else seconds

    def _concluded(self, task: Task, observer: Observer, rows: Rows, cost: Cost) -> Cost:
        wanted, about = len(task.wanted), task.about(observer.facts)
        few, many = (min(wanted, n) for n in ROWS)
        conclude = lambda n: self.timed(lambda: task.instrument.conclude(_grown(rows, n), about))[0]  # noqa: E731
        seconds = conclude(few)
        if many == few:
            return replace(cost, conclude=seconds)
        more = conclude(many)
        growth = max(more - seconds, 0.0) / (many - few)
        return replace(cost, conclude=more - growth * many, conclude_each=growth)

    def _drawn(self, task: Task, batch: Batch, rows: Rows, cost: Cost) -> Cost:
        """With the seconds of illustrating: of one image, then of two, which says how they grow."""
        tool = task.instrument
        grown = _grown(tool.with_outcomes(rows, Conclusion()), min(len(task.wanted), ROWS[1]))
        count = min(len(set(tool.examples(grown))), MOST_DRAWN)
        ids = rows["id"].unique(maintain_order=True).to_list()
        places = [i for i, name in enumerate(batch.ids) if name in ids]

        def draw(few: int) -> None:
            shown = batch.select(places[:few])
            for panel in tool.illustrate(task.classifier, shown, tool.rows_to_show(rows, shown.ids)):
                for figure in panel.figures:
                    for one in (figure, *figure.insets):
                        _ = None if one.pixels is None else encoded(np.ascontiguousarray(one.pixels))

        seconds = self.timed(lambda: draw(min(count, 1)))[0]
        more = min(count, len(places)) - 1
        if more > 0:
            growth = max(self.timed(lambda: draw(2))[0] - seconds, 0.0)
            seconds += growth * (count - 1)
        return replace(cost, draw=seconds)


def _few(images: ImageSet) -> list[Sample]:
    """A few images, evenly spread, that can be read."""
    count, found = min(TRIED, len(images)), []
    for i in range(count):
        with suppress(UnreadableError):
            found.append(images.read((2 * i + 1) * len(images) // (2 * count)))
    return found


def _grown(rows: Rows, images: int) -> Rows:
    """Rows as of so many images: those of a few, again and again under other ids."""
    ids = rows["id"].unique(maintain_order=True).to_list()
    frames, missing = [], images
    for turn in range(-(-images // max(len(ids), 1)) if ids else 0):
        some = ids[:missing]
        part = rows if len(some) == len(ids) else rows.filter(pl.col("id").is_in(some))
        frames.append(part.with_columns(pl.col("id") + f" {turn}"))
        missing -= len(some)
    return pl.concat(frames) if frames else rows


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had been drawn."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  an instrument of the user's may draw from it
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
