"""What is done together: tasks that read the same files, images that are seen as one batch, units to hand out.

All of it follows from the tasks alone, never from what is done already: every process and every resumed run sees the
same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cuescope.data.derived import root
from cuescope.runs import task as sizes
from cuescope.runs.task import Task, every

Positions = np.ndarray[Any, Any]
"""Of images in the set whose files are decoded, (n,) int64; increasing."""


def groups(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks that read the same files, whether they are finished or not."""
    by_root: dict[int, list[Task]] = defaultdict(list)
    for task in tasks:
        by_root[id(root(task.images))].append(task)
    return list(by_root.values())


def union(tasks: Sequence[Task]) -> Positions:
    """The images that any of these tasks wants; they read the same files."""
    whole = len(root(tasks[0].images))
    if any(len(task.positions) == whole for task in tasks):
        return every(whole)
    return np.unique(np.concatenate([task.positions for task in tasks]))


def batches(union: Positions, wanted: Positions | None = None) -> list[Positions]:
    """The images that are decoded and shown together: all batches, or those that hold any of the `wanted` images.

    >>> [len(batch) for batch in batches(np.arange(70))], [int(b[0]) for b in batches(np.arange(70), np.array([40]))]
    ([32, 32, 6], [32])
    """
    size = sizes.BATCH
    if wanted is None:
        return np.split(union, range(size, len(union), size))
    numbers = np.unique(np.searchsorted(union, wanted) // size)
    return [union[number * size : (number + 1) * size] for number in numbers.tolist()]


class Unit(NamedTuple):
    """What one process does at a time and no other does: chunks of tasks that read the same files."""

    group: int
    chunks: tuple[tuple[int, int], ...]
    """Numbers of tasks, each with the number of a chunk."""
    images: int
    """As many are observed."""


def units(tasks: Sequence[Task]) -> list[Unit]:
    """All chunks of all tasks: those of the same images together, so that files are decoded once for them.

    Chunks of instruments that look at few images reach far over the set, and cost much: each is a unit of its own.
    """
    numbers = {id(task): number for number, task in enumerate(tasks)}
    found: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    counts: dict[tuple[int, ...], int] = {}
    for number, group in enumerate(groups(tasks)):
        wanted = union(group)
        for task in group:
            firsts = np.arange(0, len(task.positions), sizes.CHUNK)
            lasts = np.minimum(firsts + sizes.CHUNK, len(task.positions)) - 1
            low, high = (np.searchsorted(wanted, task.positions[at]).tolist() for at in (firsts, lasts))
            for chunk, (first, last) in enumerate(zip(low, high, strict=True)):
                alone = (numbers[id(task)],) if last - first >= sizes.CHUNK else ()
                key = (number, first, last, *alone)
                found[key].append((numbers[id(task)], chunk))
                counts[key] = int(lasts[chunk] - firsts[chunk]) + 1
    return [Unit(key[0], tuple(chunks), counts[key]) for key, chunks in sorted(found.items())]
