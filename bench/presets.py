"""What do the presets cost, in bare clean passes of the network, and are their estimates right?

In one process, on the same images: a bare pass (decode, prepare, forward in batches of 32, in a plain torch loop) of
ResNet-50 with random weights, then an audit with each preset. Prints a table besides, with a row an instrument:
seconds, times the bare pass, images and forward passes that they equal, and the estimate beside what came. Seconds are
by the clock that is asked for; those of the processors count threads together, so take one thread for them.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from ratios import Given, Row

from cuescope.api.audit import perform
from cuescope.classifier.sources import load
from cuescope.data.readers import read_folder
from cuescope.runs import cost, store
from cuescope.runs.estimate import Estimate, Forecast
from cuescope.runs.options import AuditOptions

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
    measure, forecast, ticks, found = cost.measure, cost.forecast, store.time.perf_counter, []

    def kept(estimate: Estimate, *rest: object) -> Forecast:
        found.append((estimate, forecast(estimate, *rest)))
        return found[-1][1]

    cost.measure = lambda tasks, workers=None: measure(tasks, workers, clock)
    cost.forecast = kept
    store.time.perf_counter = clock
    try:
        yield found
    finally:
        cost.measure, cost.forecast, store.time.perf_counter = measure, forecast, ticks


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
    preset: str, run: store.Run, each: float, whole: float, estimate: Estimate, expected: Forecast, count: int
) -> None:
    """The table of one preset. `each` is the bare pass's seconds an image."""
    came, looked = Counter(), Counter()
    for cell in run.cells:
        came[cell.instrument] += cell.seconds
        looked[cell.instrument] += cell.rows(columns=["id"])["id"].n_unique()
    once = each * count
    row("instrument", "images", "seconds", "bare passes", "forward passes an image", "estimated s", "off")
    row(*["---"] * 7)
    for name, seconds in came.most_common():
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
