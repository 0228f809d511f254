"""What do the presets cost, in bare clean passes of the network, and are their estimates right?

In one process, on the same images: a bare pass (decode, prepare, forward in batches of 32, in a plain torch loop) of
ResNet-50 with random weights, then an audit with each preset. Prints a table besides, with a row an instrument:
seconds, times the bare pass, images and forward passes that they equal, and the estimate beside what came. Seconds are
by the clock that is asked for; those of the processors count threads together, so take one thread for them.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from ratios import Given, Row

from cuescope.api.audit import perform
from cuescope.classifier.sources import load
from cuescope.data.readers import read_folder
from cuescope.runs import cost
from cuescope.runs.estimate import Estimate, Forecast
from cuescope.runs.options import AuditOptions
from cuescope.runs.store import Run
from cuescope.runs.task import Task

BATCH, MODEL = 32, "torchvision/resnet50@random"
BARS = {"quick": 12.0, "standard": 60.0}
WITHIN = 0.25


def bare(folder: Path, count: int, clock: Callable[[], float]) -> float:
    """Seconds of one clean pass: the files decoded, prepared and shown once."""
    classifier, images = load(MODEL), read_folder(folder, limit=count)
    network = classifier.network
    assert network is not None
    groups = [range(at, min(at + BATCH, len(images))) for at in range(0, len(images), BATCH)]
    with torch.inference_mode():
        network(classifier.normalize(torch.rand(BATCH, 3, *classifier.preprocessing.size)))  # The first is slow.
        start = clock()
        for samples, _ in images.stream(groups):
            network(classifier.normalize(classifier.prepare([sample for _, sample in samples])))
        return clock() - start


@contextmanager
def watched(clock: Callable[[], float]) -> Iterator[list[tuple[Estimate, Forecast]]]:
    """What is estimated meanwhile, by this clock, which the seconds of cells are taken by too."""
    measure, forecast, found = cost.measure, cost.forecast, []

    def kept(estimate: Estimate, *rest: Any) -> Forecast:
        found.append((estimate, forecast(estimate, *rest)))
        return found[-1][1]

    def by_clock(tasks: Sequence[Task], workers: int | None = None) -> Estimate:
        return measure(tasks, workers, clock)

    with (
        mock.patch.object(cost, "measure", by_clock),
        mock.patch.object(cost, "forecast", kept),
        mock.patch.object(time, "perf_counter", clock),
    ):
        yield found


def rows(given: Given) -> Iterator[Row]:
    clock = {"wall": time.perf_counter, "processor": time.process_time}[given.clock]
    folder, count = given.photographs(), given.take(500, 8)
    once = bare(folder, count, clock)
    for preset in list(BARS)[: given.take(2, 1)]:
        with tempfile.TemporaryDirectory() as out, watched(clock) as found:
            options = AuditOptions.of(images=str(folder), limit=count, preset=preset, out=Path(out) / "run")
            options.check([MODEL])
            start = clock()
            run = perform([MODEL], options, say=lambda _: None).run
            whole = clock() - start
            estimate, expected = found[-1]
            report(preset, run, once / count, whole, estimate, expected, count)
        what, bar = f"`--preset {preset}` of {count} photographs, ResNet-50 / one bare clean pass", BARS[preset]
        yield Row(
            f"{what} ({once:.1f} s by the {given.clock} clock)", f"at most {bar:g} times", [whole / once], most=bar
        )
        off = abs(expected.total / (whole - estimate.took) - 1)
        yield Row(f"its estimate, {expected.total:.0f} s, is off by", "within 25 % of what came", [off], most=WITHIN)


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def report(
    preset: str, run: Run, each: float, whole: float, estimate: Estimate, expected: Forecast, count: int
) -> None:
    """The table of one preset. `each` is the bare pass's seconds an image."""
    came, looked = defaultdict(float), defaultdict(int)
    for cell in run.cells:
        came[cell.instrument] += cell.seconds
        looked[cell.instrument] += cell.rows(columns=["id"])["id"].n_unique()
    once = each * count
    row("instrument", "images", "seconds", "bare passes", "forward passes an image", "estimated s", "off")
    row(*["---"] * 7)
    for name, seconds in sorted(came.items(), key=lambda item: -item[1]):
        if seconds < 0.05:
            continue
        guess, images = expected.instruments.get(name, 0.0), looked[name]
        passes = f"{seconds / each / images:.1f}" if images else "-"
        off = f"{guess / seconds - 1:+.0%}"
        row(name, images, f"{seconds:.1f}", f"{seconds / once:.2f}", passes, f"{guess:.1f}", off)
    rest = whole - estimate.took - sum(came.values())
    guess = expected.shared + expected.finish
    row("the rest", "", f"{rest:.1f}", f"{rest / once:.2f}", "", f"{guess:.1f}", f"{guess / max(rest, 1e-9) - 1:+.0%}")
    row("the trial", "", f"{estimate.took:.1f}", f"{estimate.took / once:.2f}", "", "", "")
    off = expected.total / (whole - estimate.took) - 1
    row(f"**{preset}**", "", f"{whole:.1f}", f"{whole / once:.2f}", "", f"{expected.total:.1f}", f"{off:+.0%}")
