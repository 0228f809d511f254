"""What do engines cost over the bare forward passes, and do all find the same?

    python bench/engines.py [--images 10000] [--processes 2] [--model cuescope/world-congruent]
                            [--sides bare,inline,local,shards,ray]

Accuracy on congruent images of the world. The bare side is as many processes that only draw the images and run the
network, batch by batch. Processor time of every process that a side starts, since wall time says little on a machine
that others use; each side runs with a tenth of the images too: the difference is what images cost, the rest what
starting costs. Bars: local at most 1.10 of bare for an image, ray at most 1.10 of local, all cells equal byte for byte.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SHARDS = 4
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
TICKS = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    processor_s: float
    wall_s: float
    peak_mb: int
    """Of the largest process."""


def family(known: set[int]) -> dict[int, float]:
    """Processor seconds of the known processes and of all that they have started."""
    parents, seconds = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
    return {pid: seconds[pid] for pid in known & seconds.keys()}


def peak_kb(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        return 0


def measured(commands: list[list[str]]) -> Spent:
    """What commands take that run at the same time, with all that they start."""
    started, found, peak = time.monotonic(), {}, 0
    # Ray starts its workers as nice as can be: on a busy machine they would hardly run.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    running = [subprocess.Popen(c, env=environment, stdout=subprocess.DEVNULL) for c in commands]
    known = {one.pid for one in running}
    while any(one.poll() is None for one in running):
        found |= family(known)
        peak = max(peak, *map(peak_kb, known))
        time.sleep(0.1)
    if any(one.returncode for one in running):
        raise SystemExit("a side failed: see above")
    return Spent(sum(found.values()), time.monotonic() - started, peak // 1024)


def side(name: str, model: str, images: int, processes: int, out: Path) -> Spent:
    audit = [sys.executable, "-m", "cuescope", "audit", model, "--images", f"world:congruent:{images}"]
    audit += ["--only", "accuracy", "--device", "cpu", "--workers", "1", "--out", str(out)]
    if name == "bare":
        return measured(
            [[sys.executable, "-c", BARE, model, *map(str, (images, k, processes))] for k in range(processes)]
        )
    if name == "shards":
        parts = [[*audit, "--shard", f"{k + 1}/{SHARDS}"] for k in range(SHARDS)]
        turns = [*(parts[k : k + processes] for k in range(0, SHARDS, processes)), [audit]]
        processor, wall, peak = zip(*map(measured, turns), strict=True)
        return Spent(sum(processor), sum(wall), max(peak))
    how = [] if name == "inline" else ["--engine", name, "--processes", str(processes)]
    return measured([[*audit, *how]])


def cells(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in (out / "cells").rglob("*") if p.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--model", default="cuescope/world-congruent")
    parser.add_argument("--sides", default="bare,inline,local,shards,ray")
    given = parser.parse_args()
    few, each, found = given.images // 10, {}, {}
    for name in given.sides.split(","):
        with tempfile.TemporaryDirectory() as folder:
            small = side(name, given.model, few, given.processes, Path(folder) / "few")
            large = side(name, given.model, given.images, given.processes, Path(folder) / "many")
            if name != "bare":
                found[name] = cells(Path(folder) / "many")
        each[name] = (large.processor_s - small.processor_s) / (given.images - few)
        start = small.processor_s - each[name] * few
        costs = f"{name:7} {1e3 * each[name]:6.3f} ms an image, {start:5.1f} s to start and end"
        print(f"{costs}; {large.wall_s:6.1f} s wall; peak {small.peak_mb:,} -> {large.peak_mb:,} MB", flush=True)
    for one, other in (("local", "bare"), ("shards", "bare"), ("inline", "bare"), ("ray", "local")):
        if one in each and other in each:
            print(f"{one} / {other}: {each[one] / each[other]:.3f} (bar 1.10)")
    first = next(iter(found.values()), {})
    print("cells equal byte for byte:", all(one == first for one in found.values()))


if __name__ == "__main__":
    main()
