"""How much does an audit cost over the bare forward passes it needs?

Both sides use the same decoder, threads, batches and precision, and do the same forward passes: one of each photograph,
two shifted ones of each, one of each cue-conflict image. The bare side decodes and prepares each image and runs the
network; it crops, resizes, scores and writes nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ratios import Given, Row, turns

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


def rows(given: Given) -> Iterator[Row]:
    count, classifiers = given.take(400, 16), [load(given.model(name)) for name in ("squeezenet1_1", "mobilenet_v2")]
    few, sets = (
        (read_folder(given.photographs(), limit=n), read_cue_conflict(given.conflict(), limit=n)) for n in (8, count)
    )
    ways = {"bare": lambda: bare(classifiers, *sets), "audit": lambda: audited(classifiers, *sets)}
    bare(classifiers, *few)
    audited(classifiers, *few)
    what = f"accuracy, shape_bias and shift_stability of SqueezeNet and MobileNetV2 on {count} + {count} images / their"
    yield turns(ways, given.rounds, warm=False).row(
        f"{what} bare forward passes", "audit", "bare", "an audit at most 1.15 times the passes it needs", most=1.15
    )
