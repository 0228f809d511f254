"""Are large photographs bounded by bytes?

Peak resident memory of audits of photographs of 24 megapixels, 72 MB each once decoded: what waits for its use is held
up to a gigabyte, and decoded again beyond it. What decodes and resizes one needs several times its pixels besides.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ratios import Given, Row, drawn, measured


def peak(folder: Path, count: int, model: str) -> int:
    with tempfile.TemporaryDirectory() as out:
        command = ["audit", model, "--images", str(folder), "--limit", str(count), "--only", "accuracy"]
        return measured([sys.executable, "-m", "cuescope", *command, "--out", f"{out}/run"]).peak_mb


def rows(given: Given) -> Iterator[Row]:
    few, many = given.take(64, 2), given.take(192, 4)
    names = [f"{('n02123045', 'n04146614')[i % 2]}/{i:03d}.jpg" for i in range(many)]
    folder = drawn(given.work / "megapixels", names, (6000, 4000))
    base, found = (peak(folder, count, given.model("squeezenet1_1")) for count in (few, many))
    what = f"peak of accuracy on {many} photographs of 24 megapixels ({found:,} MB) less {few} ({base:,} MB)"
    yield Row(what, "bounded: at most 100 MB more", [found - base], most=100, unit="MB")
