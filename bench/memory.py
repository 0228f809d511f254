"""Is memory flat in the number of images?

Peak resident memory of audits of the world by `cuescope/world-bagnet`, every instrument of the standard preset, each in
processes of its own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator

from ratios import Given, Row, measured


def peak(count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = ["audit", "cuescope/world-bagnet", "--images", f"world:congruent:{count}", "--out", f"{folder}/run"]
        command += ["--cue-conflict", f"world:conflict:{count}"]
        return measured([sys.executable, "-m", "cuescope", *command]).peak_mb


def rows(given: Given) -> Iterator[Row]:
    few = given.take(1_000, 100)
    base = peak(few)
    for times, bar in ((10, 200), (100, 100)):
        if (many := few * times) <= given.largest:
            found = peak(many)
            what = (
                f"peak of an audit with the standard preset, {many:,} images ({found:,} MB) less {few:,} ({base:,} MB)"
            )
            yield Row(what, f"at most {bar} MB more", [found - base], most=bar, unit="MB")
