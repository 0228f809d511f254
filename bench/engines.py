"""What do engines cost over the bare forward passes, and do all find the same?

Accuracy on congruent images of the world. The bare side is as many processes that only draw the images and run the
network, batch by batch. Each side runs with a tenth of the images too: the difference is what images cost, the rest
what starting costs. Every process that a side starts counts.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ratios import Given, Row, Spent, Taken, Turns, measured

MODEL, PROCESSES, SHARDS = "cuescope/world-congruent", 2, 4
BARE = """
import sys, torch
from cuescope.classifier.sources import load
from cuescope.runs.inputs import find_images
from cuescope.runs.task import BATCH
torch.set_num_threads(1)
name, count, first, step = sys.argv[1], *map(int, sys.argv[2:])
images, classifier = find_images(f"world:congruent:{count}"), load(name)
groups = [range(at, min(at + BATCH, count)) for at in range(first * BATCH, count, step * BATCH)]
for samples, _ in images.stream(groups, 1):
    classifier.logits(classifier.prepare([sample for _, sample in samples]))
"""


def side(name: str, images: int, out: Path) -> Spent:
    audit = [sys.executable, "-m", "cuescope", "audit", MODEL, "--images", f"world:congruent:{images}"]
    audit += ["--only", "accuracy", "--device", "cpu", "--workers", "1", "--out", str(out)]
    if name == "bare":
        return measured(
            *([sys.executable, "-c", BARE, MODEL, *map(str, (images, k, PROCESSES))] for k in range(PROCESSES))
        )
    if name == "shards":
        parts = [[*audit, "--shard", f"{k + 1}/{SHARDS}"] for k in range(SHARDS)]
        spent = [measured(*parts[k : k + PROCESSES]) for k in range(0, SHARDS, PROCESSES)] + [measured(audit)]
        return Spent(Taken(*map(sum, zip(*(one.taken for one in spent), strict=True))), max(s.peak_mb for s in spent))
    how = [] if name == "inline" else ["--engine", name, "--processes", str(PROCESSES)]
    return measured([*audit, *how])


def cells(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in (out / "cells").rglob("*") if p.is_file()}


def rows(given: Given) -> Iterator[Row]:
    count, wanted = given.take(10_000, 1_000), {}
    few, other = count // 10, 0
    each, starts = Turns({name: [] for name in ("bare", "inline", "local", "shards", "ray")}), {}
    for _ in range(given.rounds):
        for name in each.taken:
            with tempfile.TemporaryDirectory() as folder:
                small, large = (side(name, n, Path(folder) / str(n)).taken for n in (few, count))
                if name != "bare":
                    found = cells(Path(folder) / str(count))
                    wanted, other = wanted or found, other + (found != (wanted or found))
            took = large - small
            each.taken[name].append(Taken(took.wall / (count - few), took.processor / (count - few)))
            starts[name] = small.processor - each.taken[name][-1].processor * few
    for one, beside, asked in (
        ("local", "bare", "local throughput within 10 % of the bare forward passes"),
        ("shards", "bare", ""),
        ("inline", "bare", ""),
        ("ray", "local", "Ray's overhead at most 10 % more"),
    ):
        a, b = (f"{1e3 * median(t.processor for t in each.taken[n]):.2f} ms" for n in (one, beside))
        what = f"an image by {one} ({a} of processors, {starts[one]:.0f} s to start and end) / {beside} ({b})"
        yield each.row(what, one, beside, asked, **({"most": 1.1} if asked else {}))
    yield Row("engines whose findings are not the same byte for byte", "same findings", [other], most=0, unit="")
