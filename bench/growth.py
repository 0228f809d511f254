"""How do time and memory of an audit grow with its images?

Congruent images of the world by `cuescope/world-congruent` on two processes: what looks at each image once (accuracy),
what looks at each several times (shift_stability: one pair of crops), and occlusion on a thousandth of the images. The
exponents are of all that a command takes, its start too, which weighs on the fewest images: so that of the two largest
sizes is told besides.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator

from ratios import Given, Row, Spent, exponent, measured

SIZES = (1_000, 10_000, 100_000)


def audit(count: int) -> Spent:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "audit",
            "cuescope/world-congruent",
            "--images",
            f"world:congruent:{count}",
            "--out",
            f"{folder}/run",
        ]
        command += [
            "--only",
            "accuracy,shift_stability,occlusion",
            "--set",
            f"occlusion.images={max(count // 1000, 1)}",
        ]
        command += ["--set", "shift_stability.protocols=crop", "--set", "shift_stability.pairs=1"]
        command += ["--device", "cpu", "--engine", "local", "--processes", "2"]
        return measured([sys.executable, "-m", "cuescope", *command])


def rows(given: Given) -> Iterator[Row]:
    spent: dict[int, Spent] = {}
    for size in (given.take(size, size // 20) for size in SIZES):
        if size <= given.largest:
            spent[size] = audit(size)
            wall, processor = spent[size].taken
            yield Row(f"an audit of {size:,} images", "", [wall], [processor], unit="s")
            yield Row(f"its peak of memory, {size:,} images", "", [spent[size].peak_mb], unit="MB")
    sizes = list(spent)
    for some in (sizes, sizes[-2:])[: max(len(sizes) - 1, 0)]:  # a line needs two
        costs = [(*spent[size].taken, spent[size].peak_mb) for size in some]
        wall, processor, memory = (exponent(some, each) for each in zip(*costs, strict=True))
        of = f"{some[0]:,} to {some[-1]:,} images"
        yield Row(f"exponent of time, {of}", "a fit", [wall], [processor], unit="")
        yield Row(f"exponent of memory, {of}", "a fit", [memory], unit="")
