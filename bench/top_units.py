"""What do the strongest images of every unit cost over the bare forward passes?

Both sides decode, prepare and run the same images with the same batches. What the bare side leaves out is all the rest:
the peaks of every channel of the layers, rows, files. The projections that are drawn come after the pass and are timed
for themselves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ratios import Given, Row, Taken, now, turns

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.progress import Whole
from cuescope.data.images import ImageSet
from cuescope.data.readers import read_folder
from cuescope.instruments.top_units import TopUnits
from cuescope.runs.estimate import Meter
from cuescope.runs.runner import run
from cuescope.runs.store import Run
from cuescope.runs.task import BATCH, Task


def bare(classifier: Classifier, images: ImageSet) -> None:
    groups = [range(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    for samples, _ in images.stream(groups):
        classifier.logits(classifier.prepare([sample for _, sample in samples]))


def asked(classifier: Classifier, images: ImageSet) -> tuple[Taken, Taken]:
    """What the pass takes, and what follows it: to conclude and to draw."""
    marks: list[Taken] = []

    def note(_done: int, _total: int, what: str, _whole: Whole | None = None, /) -> None:
        if what.startswith("concluding"):
            marks.append(now())

    place, started = tuple(range(1000)) if images.classes else (), now()
    with tempfile.TemporaryDirectory() as folder:
        (cell,) = run(
            [Task(classifier, images, TopUnits(), place)], Run.create(Path(folder) / "run"), meter=Meter(note)
        )
        assert cell.status == "done", cell.why
    return marks[0] - started, now() - marks[0]


def rows(given: Given) -> Iterator[Row]:
    classifier, count = load(given.model("squeezenet1_1")), given.take(1000, 32)
    folder = given.photographs(count)
    images, few, drawn = read_folder(folder, limit=count), read_folder(folder, limit=8), []
    bare(classifier, few)
    asked(classifier, few)

    def passed() -> Taken:
        first, then = asked(classifier, images)
        drawn.append(then.wall)
        return first

    ways = {"bare": lambda: bare(classifier, images), "pass": passed}
    what, bar = f"top_units over {len(images):,} images, SqueezeNet 1.1", "at most 1.3 times the bare forward passes"
    yield turns(ways, given.rounds, warm=False).row(f"{what} / bare passes", "pass", "bare", bar, most=1.3)
    yield Row("to conclude and to draw 30 units after that", "", drawn, unit="s")
