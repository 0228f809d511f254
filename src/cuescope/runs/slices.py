"""On which images is a classifier worse? Rows of a run joined with what else is known of the images. No model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import stats
from cuescope.core.errors import CueError
from cuescope.core.files import read_json, write_json
from cuescope.core.findings import Measure
from cuescope.core.intervals import UNITS, exact_test, holm, student, student_tails
from cuescope.runs.cell import Cell
from cuescope.runs.comparisons.paired import ALIKE, LEVEL
from cuescope.runs.store import Run

FILE, SCHEMA = "slices.json", 1
Outcome = Literal["worse", "better", "lower", "higher", "alike", "cannot tell"]
DRAWS = 9_999
ORDER: tuple[Outcome, ...] = ("worse", "lower", "higher", "better", "cannot tell", "alike")


@dataclass(frozen=True)
class Part:
    """A measure over some images."""

    value: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Slice:
    """A headline measure over the images with one value of a column, beside all others of which the column is known."""

    classifier: str
    images: str
    instrument: str
    measure: str
    title: str
    unit: str
    better: str
    column: str
    value: str
    inside: Part
    outside: Part
    difference: float
    """Inside less outside."""
    interval: tuple[float, float] | None
    p: float | None
    """Corrected for all slices and measures of the run (Holm)."""
    said: Outcome
    """Worse and better, lower and higher where no direction is, only where p is below .05; alike only where the whole
    interval lies within five points."""


@dataclass(frozen=True)
class Slices:
    """All slices of a run, the worst first."""

    metadata: str
    """The file's name."""
    slices: tuple[Slice, ...]
    family: int
    """How many differences the p values are corrected for."""
    notes: tuple[str, ...] = ()
    """What of the file was not used, and why."""


def slices(run: Run, known: pl.DataFrame, metadata: str) -> Slices:
    """Where is each headline measure that is a mean over images another than elsewhere?

    `known` has a column `id`, of the images, and others of text. Of a column with two values one slice is made, the
    worse; a slice needs five images inside and outside. Raises CueError where no image is in both.
    """
    columns = [column for column in known.columns if column != "id"]
    found: list[tuple[Slice, float | None]] = []
    seen: set[str] = set()
    sliced: set[str] = set()
    for cell in run.cells:
        for measure, rows in _measures(cell, known):
            seen |= set(rows["id"])
            for column in columns:
                made = list(_of_column(cell, measure, rows, column))
                sliced |= {column} if made else set()
                found += made
    if not seen:
        told = f"'{metadata}' names no image of '{run.place}' that was measured"
        do = f"the run has '{example}'" if (example := _example(run)) else "audit images with labels"
        wanted = "in the column file the path of each image in its folder"
        raise CueError(told, wanted=wanted, do=f"{do}, the file has '{known['id'][0]}'")
    tested = [i for i, (_, p) in enumerate(found) if p is not None]
    corrected = dict(zip(tested, holm([found[i][1] for i in tested]), strict=True))  # type: ignore[misc]
    whole = [_said(one, corrected.get(i)) for i, (one, _) in enumerate(found)]
    notes = [
        f"{column}: no value has {UNITS} images or more, and {UNITS} others"
        for column in columns
        if column not in sliced
    ]
    if without := known.height - known["id"].is_in(list(seen)).sum():
        notes.append(f"{without:,} of {known.height:,} files of the table were not measured")
    return Slices(metadata, tuple(sorted(whole, key=_badness)), len(tested), tuple(notes))


def write(run: Run, found: Slices) -> None:
    """Keep the slices in the run folder, where the report finds them."""
    write_json(run.path / FILE, {"schema": SCHEMA, **asdict(found)})


def read(run: Run) -> Slices | None:
    """The slices that `write` kept, or None. Raises CueError where the file is damaged or of another version."""
    if not (run.path / FILE).is_file():
        return None
    data = read_json(run.path / FILE)
    try:
        if data.pop("schema", None) != SCHEMA:
            raise ValueError("it is of another version")
        return msgspec.convert(data, Slices)
    except ValueError as error:
        do = "remove it, or slice the run again: cuescope slices"
        raise CueError(f"'{run.path / FILE}' holds no slices: {error}", wanted=f"schema {SCHEMA}", do=do) from None


def _example(run: Run) -> str:
    return next((rows["id"][0] for cell in run.cells if (rows := cell.rows(columns=["id"])).height), "")


def _measures(cell: Cell, known: pl.DataFrame) -> Iterator[tuple[Measure, pl.DataFrame]]:
    """The headline measures of a cell that are means over images, with the rows of known images that count."""
    finding = cell.finding if cell.status == "done" else None
    measures = [m for m in finding.measures if m.headline and m.per_image and m.value is not None] if finding else []
    columns = list(dict.fromkeys(["id", *(name for m in measures for name in (m.per_image, *m.clusters))]))
    if not measures:
        return
    rows = cell.rows(columns=columns)
    named = known.rename({column: f"known {column}" for column in known.columns if column != "id"})
    joined = rows.join(named, on="id", how="inner", maintain_order="left")
    for measure in measures:
        counted = joined.with_columns(pl.col(measure.per_image).cast(pl.Float64).fill_nan(None))
        counted = counted.filter(counted[measure.per_image].is_not_null())
        if counted.height:
            yield measure, counted


def _of_column(cell: Cell, measure: Measure, rows: pl.DataFrame, column: str) -> Iterable[tuple[Slice, float | None]]:
    """A slice for each value of the column, of two the worse, with its p value before correction."""
    name = f"known {column}"
    rows = rows.filter(rows[name].is_not_null())
    made = []
    for value in rows[name].unique().sort():
        inside, outside = rows.filter(rows[name] == value), rows.filter(rows[name] != value)
        if min(inside["id"].n_unique(), outside["id"].n_unique()) >= UNITS:
            made.append(_slice(cell, measure, (column, value), inside, outside))
    if rows[name].n_unique() == 2:
        made = sorted(made, key=lambda one: one[0].difference * (-1 if measure.better == "lower" else 1))[:1]
    return made


def _slice(
    cell: Cell, measure: Measure, where: tuple[str, str], inside: pl.DataFrame, outside: pl.DataFrame
) -> tuple[Slice, float | None]:
    a, b = (_mean(measure, rows) for rows in (inside, outside))
    interval = stats.independent_difference(a.value, a.interval, b.value, b.interval)
    made = Slice(
        classifier=cell.classifier,
        images=cell.images,
        instrument=cell.instrument,
        measure=measure.name,
        title=measure.label,
        unit=measure.unit,
        better=measure.better,
        column=where[0],
        value=where[1],
        inside=a,
        outside=b,
        difference=a.value - b.value,
        interval=interval,
        p=None,
        said="cannot tell",
    )
    values = [rows[measure.per_image].to_numpy() for rows in (inside, outside)]
    p = None if interval is None else _p(made.difference, interval, min(a.n, b.n))
    if not measure.clusters:
        p = p_of_two(values[0], values[1], p)
    return made, p


def p_of_two(inside: NDArray[Any], outside: NDArray[Any], otherwise: float | None = None) -> float | None:
    """How likely do two means differ so much or more, if it is by chance which values lie inside?

    Exact for 0 and 1 (Fisher); else of 9,999 drawn at random (permutations), and `otherwise` where none of these
    differ so much and it is less. Of more than 2,000 values those inside are drawn with replacement.

    >>> p_of_two(np.array([0.0] * 5), np.array([1.0] * 5)) < 0.01
    True
    """
    both = np.concatenate([inside, outside])
    n, m = len(both), min(len(inside), len(outside))
    if np.isin(both, (0, 1)).all():
        return exact_test(int(inside.sum()), len(inside), int(outside.sum()), len(outside))
    few = inside if len(inside) == m else outside
    random, apart = np.random.default_rng(0), abs(float(few.mean()) - float(both.mean()))
    exceeding = 0
    for _ in range(DRAWS // 99):
        if n <= 2000:
            means = both[np.argpartition(random.random((99, n)), m - 1)[:, :m]].mean(1)
        else:
            means = both.mean() + (both[random.integers(0, n, (99, m))].mean(1) - both.mean()) * np.sqrt(1 - m / n)
        exceeding += int((np.abs(means - both.mean()) >= apart * (1 - 1e-9)).sum())
    p = (1 + exceeding) / (1 + DRAWS)
    return p if exceeding or otherwise is None else min(p, otherwise)


def _mean(measure: Measure, rows: pl.DataFrame) -> Part:
    clusters = [rows[name] for name in measure.clusters]
    found = stats.mean(measure.name, rows[measure.per_image], measure.unit, clusters=clusters)
    assert found.value is not None
    return Part(found.value, found.interval, found.n)


def _p(difference: float, interval: tuple[float, float], n: int) -> float:
    """How likely a difference is that is as far from 0, as its interval has it: below .05 where that leaves out 0."""
    towards = difference - interval[0] if difference > 0 else interval[1] - difference
    if towards <= 0:
        return 1.0 if difference == 0 else 0.0
    return student_tails(abs(difference) / towards * student(n - 1), n - 1)


def _said(one: Slice, p: float | None) -> Slice:
    outcome: Outcome = "cannot tell"
    if p is not None and p < LEVEL and one.difference:
        more = one.difference > 0
        outcome = "higher" if more else "lower"
        if one.better:
            outcome = "better" if more == (one.better == "higher") else "worse"
    elif one.interval and one.unit in ("share", "probability", "difference"):
        outcome = "alike" if one.interval[0] > -ALIKE and one.interval[1] < ALIKE else "cannot tell"
    return replace(one, p=p, said=outcome)


def _badness(one: Slice) -> tuple[int, bool, float]:
    """What is surely worse comes first, and of this what differs most."""
    sign = {"higher": -1, "lower": 1}.get(one.better)
    return ORDER.index(one.said), not one.better, -(sign * one.difference if sign else abs(one.difference))
