"""Which of two classifiers is better, on the same images? Pure functions of stored rows."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from cuescope.core import stats
from cuescope.runs.store import Cell, Run


def difference(a: pl.DataFrame, b: pl.DataFrame, column: str) -> tuple[float, tuple[float, float] | None, int]:
    """Mean of `column` in a less that in b over the images both have, with its paired bootstrap interval.

    Raises ValueError where no image is in both, or none counts for one of them.
    """
    if column not in a.columns or column not in b.columns:
        raise ValueError(f"the rows hold no '{column}'")
    both = a.select("id", pl.col(column).cast(pl.Float64).alias("a")).join(
        b.select("id", pl.col(column).cast(pl.Float64).alias("b")), on="id", how="inner", maintain_order="left"
    )
    if not both.height:
        raise ValueError("the two have no image in common")
    a_values, b_values = (both[key].fill_null(float("nan")).to_numpy() for key in "ab")
    return stats.paired_difference(a_values, b_values)


def verdicts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every measure that is a mean over images, for every pair of classifiers seen on the same images.

    Only findings of the same instrument, version, parameters and image set are set against each other. Each
    verdict: instrument, measure, title, a, b, value (a less b), interval, n, why.
    """
    found = []
    for (_, a), (_, b) in matched(runs):
        finding_a, finding_b = a.finding, b.finding
        if finding_a is None or finding_b is None:
            continue
        other = {measure.name for measure in finding_b.measures if measure.value is not None}
        shared = [m for m in finding_a.measures if m.per_image and m.value is not None and m.name in other]
        if not shared:
            continue
        columns = list(dict.fromkeys(["id", *(measure.per_image for measure in shared)]))
        rows_a, rows_b = a.rows(columns=columns), b.rows(columns=columns)
        for measure in shared:
            try:
                value, interval, n = difference(rows_a, rows_b, measure.per_image)
            except ValueError:
                continue
            verdict = {
                "instrument": a.instrument,
                "measure": measure.name,
                "title": measure.label,
                "unit": measure.unit,
                "better": measure.better,
                "a": a.classifier,
                "b": b.classifier,
                "value": value,
                "interval": list(interval) if interval else None,
                "n": n,
                "why": "" if interval else "too few images for an interval",
            }
            found.append(verdict)
    return found


def matched(runs: Sequence[Run]) -> Iterator[tuple[tuple[Run, Cell], tuple[Run, Cell]]]:
    """Each two finished cells of one question on the same images that are not of the same classifier, once.

    The same question is the same instrument, version and parameters. A cell that lies in two runs counts once.
    """
    cells: dict[str, tuple[Run, Cell, Any, Any]] = {}
    for run in runs:
        digests = {s["name"]: s["digest"] for s in run.manifest["image_sets"]}
        who = {c["name"]: (c["name"], c.get("digest")) for c in run.manifest["classifiers"]}
        for cell in run.cells:
            if cell.status == "done":
                asked = cell.instrument, digests[cell.images], cell.identity["version"], cell.identity["params"]
                cells.setdefault(cell.folder.name, (run, cell, asked, who.get(cell.classifier)))
    for (run_a, a, asked_a, who_a), (run_b, b, asked_b, who_b) in itertools.combinations(cells.values(), 2):
        if asked_a == asked_b and who_a != who_b:
            yield (run_a, a), (run_b, b)
