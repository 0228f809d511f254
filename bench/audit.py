"""How much does an audit cost over the bare forward passes it needs?

    python bench/audit.py IMAGES CUE_CONFLICT LIMIT MODEL [MODEL ...]

Both sides use the same decoder, threads, batches and precision, alternate in one process, and do the same
forward passes: one of each photograph, two shifted ones of each, one of each cue-conflict image. The bare side
decodes and prepares each image and runs the network; it crops, resizes, scores and writes nothing else.
Prints seconds, ratio and the median ratio of the rounds. The bar is 1.15.
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
from cuescope.data.readers import read_cue_conflict, read_folder
from cuescope.instruments.accuracy import Accuracy
from cuescope.instruments.shape_bias import ShapeBias
from cuescope.instruments.shift_stability import ShiftStability
from cuescope.runs.runner import run
from cuescope.runs.store import Run
from cuescope.runs.task import BATCH, Task


def bare(classifiers: list[Classifier], photographs: ImageSet, conflict: ImageSet) -> None:
    for images, passes in ((photographs, 3), (conflict, 1)):
        groups = [range(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
        for samples, _ in images.stream(groups):
            for classifier in classifiers:
                pixels = classifier.prepare([sample for _, sample in samples])
                for _ in range(passes):
                    classifier.logits(pixels)


def audited(classifiers: list[Classifier], photographs: ImageSet, conflict: ImageSet) -> None:
    tasks = [
        Task(classifier, images, instrument, tuple(range(1000)) if images.classes else ())
        for classifier in classifiers
        for images, instrument in (
            (photographs, Accuracy()),
            (photographs, ShiftStability(protocols=("crop",))),
            (conflict, ShapeBias()),
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        cells = run(tasks, Run.create(Path(folder) / "run"))
        assert all(cell.status == "done" for cell in cells), [cell.why for cell in cells]


def main() -> None:
    limit = int(sys.argv[3])
    photographs, conflict = read_folder(sys.argv[1], limit=limit), read_cue_conflict(sys.argv[2], limit=limit)
    classifiers = [load(name) for name in sys.argv[4:]]
    few = read_folder(sys.argv[1], limit=8), read_cue_conflict(sys.argv[2], limit=8)
    bare(classifiers, *few)
    audited(classifiers, *few)
    ratios = []
    for _ in range(3):
        times = []
        for side in (bare, audited):
            start = time.perf_counter()
            side(classifiers, photographs, conflict)
            times.append(time.perf_counter() - start)
        ratios.append(times[1] / times[0])
        print(f"bare {times[0]:6.1f} s   audit {times[1]:6.1f} s   ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} (bar 1.15)")


if __name__ == "__main__":
    main()
