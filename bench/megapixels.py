"""Are large photographs bounded by bytes?

Peak resident memory of audits of photographs of 24 megapixels, 72 MB each once decoded: a batch of 32 of them would be
2.3 GB.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ratios import Given, Row, drawn, measured


def peak(folder: Path, count: int, model: str) -> int:
    with tempfile.TemporaryDirectory() as out:
        command = ["audit", model, "--images", str(folder), "--limit", str(count), "--out", f"{out}/run"]
        return measured([sys.executable, "-m", "cuescope", *command]).peak_mb


def rows(given: Given) -> Iterator[Row]:
    few, many = given.take(8, 2), given.take(64, 4)
    names = [f"{('n02123045', 'n04146614')[i % 2]}/{i:03d}.jpg" for i in range(many)]
    folder = drawn(given.work / "megapixels", names, (6000, 4000))
    base, found = (peak(folder, count, given.model("squeezenet1_1")) for count in (few, many))
    whole = f"{many} photographs of 24 megapixels with the standard preset"
    yield Row(
        f"peak of an audit of {whole} ({found:,} MB) less of {few} ({base:,} MB)", "bounded", [found - base], unit="MB"
    )
    yield Row("that peak, in such photographs decoded", "less than a batch of 32", [found / 72], most=32, unit="")
