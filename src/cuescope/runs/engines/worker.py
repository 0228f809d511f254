"""One process at work for an audit: it holds the classifiers, takes numbers of units, and gives counts back."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cuescope.core.errors import CueError
from cuescope.data.derived import root
from cuescope.data.images import ImageSet
from cuescope.instruments.base import Observer
from cuescope.runs.estimate import Meter
from cuescope.runs.minutes import Chosen
from cuescope.runs.options import AuditOptions
from cuescope.runs.plan import find_classifiers, find_instruments, plan_of, with_series
from cuescope.runs.reader import Reader
from cuescope.runs.reading import Reading, started
from cuescope.runs.runner import Done
from cuescope.runs.store import Run
from cuescope.runs.task import Task
from cuescope.runs.units import Positions, batches, groups, union, units


@dataclass(frozen=True)
class Job:
    """All that another process has to know of an audit. Image sets are sent as they were listed, not listed again."""

    models: Sequence[str]
    options: AuditOptions
    sets: Mapping[str, ImageSet]
    chosen: Chosen | None
    cells: Sequence[str]
    """The names of the cells' folders: the other process is to find the same."""
    threads: int
    """Of each process, for forward passes."""


def unsendable(error: Exception) -> CueError:
    """The error of a job that cannot be sent: its image sets are the user's own."""
    found, do = f"the images cannot be sent to another process: {error}", "give their path, or --engine inline"
    return CueError(found, wanted="images that other processes can read", do=do)


class Worker:
    """Reads units of the tasks of an audit into its run folder."""

    def __init__(self, tasks: Sequence[Task], run: Run, workers: int | None) -> None:
        self.tasks, self.run, self.workers = tasks, run, workers
        self.cells = [run.cell(task.identity) for task in tasks]
        self.units, self.groups = units(tasks), groups(tasks)
        self.unions: dict[int, Positions] = {}
        self.observers: dict[int, Observer | None] = {}

    @classmethod
    def of(cls, job: Job, device: str) -> Worker:
        """A process that loads the classifiers itself. Raises CueError where they are others than the first one's."""
        torch.set_num_threads(job.threads)
        options = replace(job.options, device=device)
        asked = find_instruments(options)
        classifiers = find_classifiers(with_series(job.models, asked), options)
        asked = job.chosen.instruments(asked) if job.chosen else asked
        worker = cls(
            plan_of(list(asked), classifiers, job.sets, options).tasks, Run(Path(options.out)), options.workers
        )
        if [cell.folder.name for cell in worker.cells] != list(job.cells):
            found = f"a process on {platform.node()} loads other classifiers or instruments than the first one"
            do = "give all machines the same files, versions and kind of device"
            raise CueError(found, wanted="the same weights everywhere", do=do)
        return worker

    def do(self, number: int) -> Done:
        """Read a unit: its chunks are in the run folder then, but for those of instruments that fail."""
        unit = self.units[number]
        before = {task: self.cells[task].seconds for task, _ in unit.chunks}
        readers = [reader for task, chunk in unit.chunks if (reader := self._reader(task, chunk)).works]
        group = self.groups[unit.group]
        if unit.group not in self.unions:
            self.unions[unit.group] = union(group)
        images = root(group[0].images)
        reading = Reading(images, readers, self.run, Meter(), self.workers, unit=number)
        wanted = [reader.task.positions[reader.numbers.start : reader.numbers.stop] for reader in readers]
        parts = sorted({int(p[0]): p for at in wanted for p in batches(self.unions[unit.group], at)}.items())
        seen = reading.run([batch for _, batch in parts])
        return Done(number, seen, {task: self.cells[task].seconds - start for task, start in before.items()})

    def _reader(self, number: int, chunk: int) -> Reader:
        """A task ready to read a chunk; what is constant for the classifier is found once."""
        task, cell = self.tasks[number], self.cells[number]
        if number not in self.observers:
            self.observers[number] = None if cell.concluded else started(task, cell, Meter()).observer
        return Reader(task, cell, Meter(), self.observers[number], chunk)
