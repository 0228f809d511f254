"""How long from a list of very many images to the first finished chunk, and in how much memory?

    python bench/manifest.py [IMAGES] [UNIT]

Of a list that is in memory as a reader makes it: the names of an engine's units, chunks, and one unit in the middle,
done by a worker. Files are not touched: their stat is measured apart, on files of this disk. Images are gray squares,
the classifier is the world's.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cuescope.classifier.sources import load
from cuescope.data.images import Sample
from cuescope.data.readers.files import FileSet, Names
from cuescope.instruments.accuracy import Accuracy
from cuescope.runs.engines.worker import Worker
from cuescope.runs.store import Run
from cuescope.runs.task import Task

PIXELS = torch.full((3, 64, 64), 128, dtype=torch.uint8)


class Listed(FileSet):
    digest = "listed"  # pyright: ignore[reportAssignmentType]

    def read(self, index: int) -> Sample:
        return Sample(self.id(index), PIXELS, 0)


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.process_time()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what}: {time.process_time() - start:.1f} s of processor time, peak {peak:,} MB so far", flush=True)


def main() -> None:
    count = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10_000_000
    classifier = load("cuescope/world-congruent")
    with timed("before"):
        pass
    with timed(f"{count:,} names"):
        names = Names(f"n{i >> 10:08d}/n{i >> 10:08d}_{i:010d}.JPEG" for i in range(count))
    images = Listed(Path(), names, name="listed")
    with tempfile.TemporaryDirectory() as folder:
        tasks = [Task(classifier, images, Accuracy(), ())]
        with timed("units"):
            worker = Worker(tasks, Run(Path(folder)), 1)
        with timed("the first chunk"):
            worker.do(int(sys.argv[2]) if len(sys.argv) > 2 else len(worker.units) // 2)
        files = [Path(folder, str(i)) for i in range(10_000)]
        for path in files:
            path.touch()
        start = time.process_time()
        for path in files:
            os.stat(path)  # noqa: PTH116
        print(f"stat: {(time.process_time() - start) / len(files) * 1e6:.1f} us a file of this disk")


if __name__ == "__main__":
    main()
