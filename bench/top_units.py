"""What do the strongest images of every unit cost over the bare forward passes?

    python bench/top_units.py IMAGES LIMIT MODEL [ROUNDS]

Both sides decode, prepare and run the same images with the same batches, in turn, in one process. What the bare side
leaves out is all the rest: the peaks of every channel of the layers, rows, files. The projections that are drawn come
after the pass and are timed for themselves. Prints seconds and ratios; the bar for the pass is 1.3 (median).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.data.images import ImageSet
from cuescope.data.readers import read_folder
from cuescope.instruments.top_units import TopUnits
from cuescope.runs.runner import run
from cuescope.runs.store import Run
from cuescope.runs.task import BATCH, Task


def bare(classifier: Classifier, images: ImageSet) -> float:
    started = time.perf_counter()
    groups = [range(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    for samples, _ in images.stream(groups):
        classifier.logits(classifier.prepare([sample for _, sample in samples]))
    return time.perf_counter() - started


def asked(classifier: Classifier, images: ImageSet) -> tuple[float, float]:
    """Seconds of the pass, and of what follows it: to conclude and to draw."""
    marks: list[float] = []

    def note(_done: int, total: int, _what: str) -> None:
        if not total:
            marks.append(time.perf_counter())

    place = tuple(range(1000)) if images.classes else ()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        (cell,) = run([Task(classifier, images, TopUnits(), place)], Run.create(Path(folder) / "run"), progress=note)
        assert cell.status == "done", cell.why
    return marks[0] - started, time.perf_counter() - marks[0]


def main() -> None:
    images, classifier = read_folder(sys.argv[1], limit=int(sys.argv[2])), load(sys.argv[3])
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    few = read_folder(sys.argv[1], limit=8)
    bare(classifier, few)
    asked(classifier, few)
    ratios = []
    for _ in range(rounds):
        plain, (passed, drawn) = bare(classifier, images), asked(classifier, images)
        ratios.append(passed / plain)
        print(f"bare {plain:6.1f} s   pass {passed:6.1f} s   ratio {ratios[-1]:.3f}   then {drawn:5.1f} s", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} over {len(images)} images (bar 1.3)")


if __name__ == "__main__":
    main()
