"""Images that were out of reach when they were read, as on a disk that was away: they are seen when they are back.

A set's digest does not tell, since the files are as they were.
"""

from __future__ import annotations

from collections.abc import Sequence

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, OutOfReachError, Skipped, UnreadableError
from cuescope.runs import task as sizes
from cuescope.runs.cell import Cell
from cuescope.runs.store import Run
from cuescope.runs.task import Task


def check_reach(images: ImageSet, found: int, skipped: Sequence[Skipped]) -> None:
    """Raise CueError where of several images that were read together none was found: the whole set is gone."""
    if not found and len(skipped) > 1 and all(one.again for one in skipped):
        what = f"the images of '{images.name}' are gone, such as '{skipped[0].id}': {skipped[0].why}"
        do = "put them back, or mount their folder, and run the same command again: it goes on"
        raise CueError(what, wanted="the images that were there at the start", do=do)


def reopen(folder: Run, tasks: Sequence[Task], cells: Sequence[Cell]) -> None:
    """Have the chunks seen again that lack images which are back."""
    lost: dict[str, dict[str, str]] = {}
    # Of each image of a set whether it is back: each is read once, however many instruments lack it.
    known: dict[str, dict[str, bool]] = {}
    for task, cell in zip(tasks, cells, strict=True):
        digest = task.images.digest
        if digest not in lost:
            lost[digest], known[digest] = folder.out_of_reach(digest), {}
        if not lost[digest]:
            continue
        numbers = {name: k for k, i in enumerate(task.wanted) if (name := task.images.id(i)) in lost[digest]}
        for name in numbers.keys() - known[digest].keys():
            known[digest][name] = _is_back(task.images, task.wanted[numbers[name]])
        if chunks := {k // sizes.CHUNK for name, k in numbers.items() if known[digest][name]}:
            cell.forget(chunks)
    for digest, found in known.items():
        if any(found.values()):
            folder.found_again(digest, [name for name, is_back in found.items() if is_back])


def _is_back(images: ImageSet, index: int) -> bool:
    try:
        images.read(index)
    except OutOfReachError:
        return False
    except UnreadableError:
        pass
    return True
