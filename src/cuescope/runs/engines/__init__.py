"""Where the chunks of an audit are done: in this process, in several on this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cuescope.data.images import ImageSet, cores
from cuescope.runs.engines import local, ray_data
from cuescope.runs.engines.worker import Job, Worker
from cuescope.runs.minutes import Chosen
from cuescope.runs.options import AuditOptions
from cuescope.runs.runner import Done, Engine
from cuescope.runs.store import Run
from cuescope.runs.task import Task

MODULES = {"local": local, "ray": ray_data}


def here(tasks: Sequence[Task], run: Run, workers: int | None) -> Engine:
    """The engine that is no other process."""

    def done(numbers: Sequence[int]) -> Generator[Done]:
        worker = Worker(tasks, run, workers)
        yield from map(worker.do, numbers)

    return done


def elsewhere(
    models: Sequence[Any], options: AuditOptions, sets: Mapping[str, ImageSet], chosen: Chosen | None, cells: list[str]
) -> Engine:
    """Other processes, as the options say, which find cells of these names."""
    count = processes(options)
    workers = options.workers or max(1, cores() // count)
    options = replace(options, out=Path(options.out).absolute(), workers=workers)
    job = Job([str(model) for model in models], options, sets, chosen, cells, torch.get_num_threads())

    def done(numbers: Sequence[int]) -> Generator[Done]:
        if numbers:
            yield from MODULES[options.engine].done(job, numbers, min(count, len(numbers)))

    return done


def processes(options: AuditOptions) -> int:
    """How many processes read images."""
    if options.engine == "inline":
        return 1
    return options.processes or (torch.cuda.device_count() if options.device in ("auto", "cuda") else 0) or 2


@contextmanager
def threads(options: AuditOptions) -> Iterator[None]:
    """While it lasts a forward pass takes the share of threads that each process has: rounding depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // processes(options)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
