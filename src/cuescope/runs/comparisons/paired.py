"""Which of two classifiers is better, on the same images? Pure functions of stored rows."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import stats
from cuescope.core.intervals import holm
from cuescope.runs.cell import Cell
from cuescope.runs.store import Run

ALIKE = 0.05
"""Shares and probabilities are alike where they surely differ by less than this."""
LEVEL = 0.05
"""Of all the comparisons of a family together, so often one is called a difference where there is none."""


def difference(
    a: pl.DataFrame, b: pl.DataFrame, column: str, clusters: Sequence[str] = ()
) -> tuple[float, tuple[float, float] | None, int]:
    """Mean of `column` in a less that in b over the images both have, and its interval, as `stats.paired_difference`.

    Raises ValueError where no image is in both, or none counts for one of them.
    """
    x, y, labels = _sides(a, b, column, clusters)
    return stats.paired_difference(x, y, clusters=labels)


def _sides(
    a: pl.DataFrame, b: pl.DataFrame, column: str, clusters: Sequence[str]
) -> tuple[NDArray[Any], NDArray[Any], list[pl.Series]]:
    """The column of both over the images that both have, NaN where an image does not count, and their clusters."""
    if column not in a.columns or column not in b.columns:
        raise ValueError(f"the rows hold no '{column}'")
    both = a.select("id", pl.col(column).cast(pl.Float64).alias(" a"), *clusters).join(
        b.select("id", pl.col(column).cast(pl.Float64).alias(" b")), on="id", how="inner", maintain_order="left"
    )
    if not both.height:
        raise ValueError("the two have no image in common")
    x, y = (both[key].fill_null(float("nan")).to_numpy() for key in (" a", " b"))
    return x, y, [both[name] for name in clusters]


def verdicts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every measure that is a mean over images, for every pair of classifiers seen on the same images.

    Only findings of the same instrument, version, parameters and image set are set against each other; all verdicts
    are one family, as `corrected` says.
    """
    return corrected([verdict for (_, a), (_, b) in matched(runs) for verdict in measured(a, b)])


def measured(a: Cell, b: Cell) -> list[dict[str, Any]]:
    """The paired difference of each measure of two cells that is a mean over images, over the images of both.

    Each is: instrument, images (the set), measure, title, unit, better, headline, a, b, means (of either, over the
    images of both), value (a less b), interval, n, why, and p (without correction).
    """
    if a.finding is None or b.finding is None:
        return []
    found, other = [], {m.name for m in b.finding.measures if m.value is not None and m.per_image}
    shared = [m for m in a.finding.measures if m.per_image and m.value is not None and m.name in other]
    if not shared:
        return []
    wanted = [column for measure in shared for column in (measure.per_image, *measure.clusters)]
    columns = list(dict.fromkeys(["id", *wanted]))
    rows_a, rows_b = a.rows(columns=columns), b.rows(columns=columns)
    for measure in shared:
        try:
            x, y, labels = _sides(rows_a, rows_b, measure.per_image, measure.clusters)
            value, interval, n = stats.paired_difference(x, y, clusters=labels)
        except ValueError:
            continue
        verdict = {
            "instrument": a.instrument,
            "images": a.images,
            "measure": measure.name,
            "title": measure.label,
            "unit": measure.unit,
            "better": measure.better,
            "headline": measure.headline,
            "a": a.classifier,
            "b": b.classifier,
            "means": [float(np.nanmean(side)) for side in (x, y)],
            "value": value,
            "interval": list(interval) if interval else None,
            "n": n,
            "why": "" if interval else "too few images for an interval",
            "p": stats.paired_p(x, y, clusters=labels),
        }
        found.append(verdict)
    return found


def corrected(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With `p_holm`, the p values corrected for each other (Holm 1979), the size of their `family`, and `said`.

    >>> [round(v["p_holm"], 3) for v in corrected([{"p": 0.04}, {"p": 0.01}, {"p": 0.03}])]
    [0.06, 0.03, 0.06]
    """
    tested = [i for i, v in enumerate(found) if v["p"] is not None]
    p = dict(zip(tested, holm([found[i]["p"] for i in tested]), strict=True))
    whole = [{**v, "p_holm": p.get(i), "family": len(tested)} for i, v in enumerate(found)]
    return [{**v, "said": (told := said(v)), "why": _beside(v, told)} for v in whole]


def _beside(verdict: Mapping[str, Any], told: str) -> str:
    """What must stand beside a difference: why it has no interval, or why one without 0 in it tells nothing."""
    p, interval = verdict["p"], verdict.get("interval")
    if told != "cannot tell" or not interval or interval[0] <= 0 <= interval[1] or p is None:
        return verdict.get("why", "")
    return f"its interval leaves out 0, but its corrected p is {verdict['p_holm']:.2g}"


def said(verdict: Mapping[str, Any]) -> str:
    """What may be said of a difference: "a is better", "b is higher" (both of either), "alike" or "cannot tell".

    Better and higher only where the corrected p value is below 0.05; alike only where the whole interval lies within a
    margin, which shares and probabilities have.
    """
    value, interval, p = (verdict.get(key) for key in ("value", "interval", "p_holm"))
    if value and p is not None and p < LEVEL:
        better = verdict.get("better")
        more = value > 0 if better != "lower" else value < 0
        return f"{'a' if more else 'b'} is {'better' if better else 'higher'}"
    if interval is None or verdict.get("unit") not in ("share", "probability", "difference"):
        return "cannot tell"
    return "alike" if interval[0] > -ALIKE and interval[1] < ALIKE else "cannot tell"


def corrected_for(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The line that belongs beneath any list of them."""
    sizes = sorted({v["family"] for v in verdicts if v.get("family")})
    if not sizes:
        return "No difference here has a corrected p value, so none is called better."
    return f"Corrected for {' and '.join(map(str, sizes))} comparisons (Holm)."


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
                asked = cell.instrument, digests.get(cell.images, ""), cell.identity["version"], cell.identity["params"]
                cells.setdefault(cell.folder.name, (run, cell, asked, who.get(cell.classifier)))
    for (run_a, a, asked_a, who_a), (run_b, b, asked_b, who_b) in itertools.combinations(cells.values(), 2):
        if asked_a == asked_b and who_a != who_b:
            yield (run_a, a), (run_b, b)
