"""What a run found, as tables: all measures of all classifiers, or the rows of one instrument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from cuescope.core.errors import CueError
from cuescope.core.findings import Finding

COLUMNS = {
    **dict.fromkeys(("instrument", "classifier", "images", "measure", "title"), pl.String),
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
    "n": pl.Int64,
    "unit": pl.String,
    "chance": pl.Float64,
    "better": pl.String,
    "headline": pl.Boolean,
    "said": pl.String,
    "why": pl.String,
}
"""Of the table of measures: `low` and `high` are the 95 % interval, `said` is what the finding says."""


def measures(findings: Iterable[Finding]) -> pl.DataFrame:
    """One row a measure; a finding that does not apply has one row without a measure, with its reason in `why`.

    >>> from cuescope.core.findings import Measure
    >>> found = Finding("accuracy", 1, {}, "a", "photos", (Measure("top1", 0.5, "share", 4, (0.1, 0.9)),))
    >>> measures([found]).select("measure", "value", "low", "said").rows()
    [('top1', 0.5, 0.1, 'cannot tell')]
    """
    return pl.DataFrame([row for finding in findings for row in _rows(finding)], schema=COLUMNS)


def _rows(finding: Finding) -> Iterator[dict[str, Any]]:
    of = {"instrument": finding.instrument, "classifier": finding.classifier, "images": finding.images}
    if finding.why:
        yield of | {"said": "does not apply", "why": finding.why}
    for m in finding.measures:
        low, high = m.interval or (None, None)
        number = {"value": m.value, "low": low, "high": high, "n": m.n, "unit": m.unit, "chance": m.chance}
        told = {"better": m.better, "headline": m.headline, "said": finding.verdict.said, "why": m.why}
        yield of | {"measure": m.name, "title": m.label} | number | told


def rows(cells: Sequence[Any], instrument: str) -> pl.DataFrame:
    """The rows of an instrument, of all classifiers and image sets, with a column for each of these two in front.

    `cells` are those of a run (`store.Cell`, which imports this file). Raises CueError where the run has none.
    """
    found = [(cell, cell.rows()) for cell in cells if cell.instrument == instrument]
    named = [
        frame.select(pl.lit(cell.classifier).alias("classifier"), pl.lit(cell.images).alias("images"), pl.all())
        for cell, frame in found
        if frame.width > 1
    ]
    if not named:
        have = sorted({cell.instrument for cell in cells if cell.status in ("done", "partial")})
        raise CueError(f"no rows of '{instrument}'", wanted=f"one of: {', '.join(have)}", do="check the name")
    return pl.concat(named, how="diagonal_relaxed")
