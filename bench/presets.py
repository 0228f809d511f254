"""What do the presets cost, in bare clean passes of the network, and are their estimates right?

    python bench/presets.py IMAGES [--count 500] [--model torchvision/resnet50@random] [--presets quick,standard]
                            [--clock wall|cpu] [--set instrument.parameter=value ...]

In one process, on the same images: a bare pass (decode, prepare, forward in batches of 32, in a plain torch loop), then
an audit with each preset. Prints a table with a row an instrument: seconds, times the bare pass, images and forward
passes that they equal, and the estimate beside what came. The bars: quick at most 12 times the bare pass, standard at
most 60 times; the whole within 25 % of its estimate. Processor seconds ("cpu") are for a machine that is busy with
other work; they count threads together, so run them with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cuescope.api.audit import perform
from cuescope.classifier.sources import load
from cuescope.cli.audit import settings
from cuescope.data.readers import read_folder
from cuescope.runs import cost, store
from cuescope.runs.estimate import Estimate, Forecast
from cuescope.runs.options import AuditOptions

BATCH = 32
BARS = {"quick": 12.0, "standard": 60.0}
WITHIN = 0.25


def bare(model: str, folder: str, count: int, clock: Callable[[], float]) -> float:
    """Seconds of one clean pass: the files decoded, prepared and shown once."""
    classifier, images = load(model), read_folder(folder, limit=count)
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


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--model", default="torchvision/resnet50@random")
    parser.add_argument("--presets", default="quick,standard")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    once = bare(given.model, given.images, given.count, clock)
    print(f"{given.model}, {given.count} images, {torch.get_num_threads()} threads, {given.clock} clock")
    print(f"bare pass {once:.1f} s, {1000 * once / given.count:.1f} ms an image\n")
    for preset in given.presets.split(","):
        with tempfile.TemporaryDirectory() as folder, watched(clock) as found:
            options = AuditOptions.of(
                images=given.images,
                limit=given.count,
                preset=preset,
                out=Path(folder) / "run",
                settings=settings(given.set),
            )
            options.check([given.model])
            start = clock()
            run = perform([given.model], options, say=lambda _: None).run
            whole = clock() - start
            estimate, expected = found[-1]
            report(preset, run, once / given.count, whole, estimate, expected, given.count)


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
    held = "held" if whole <= BARS[preset] * once else "NOT held"
    print(f"\n{preset}: {whole / once:.1f} times the bare pass (bar {BARS[preset]:g}): {held}", end="; ")
    print(f"estimate {off:+.0%} (bar {WITHIN:.0%}): {'held' if abs(off) <= WITHIN else 'NOT held'};", end=" ")
    print(f"trial {estimate.took / expected.total:.1%} of the estimate\n", flush=True)


if __name__ == "__main__":
    main()
