"""What got better and what got worse, from one classifier to another? Over the images that both have seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cuescope.core.errors import CueError
from cuescope.core.findings import Measure
from cuescope.core.naming import short_name
from cuescope.runs.cell import Cell
from cuescope.runs.comparisons.paired import corrected, measured
from cuescope.runs.store import Run

Outcome = Literal["better", "worse", "changed", "no difference shown", "cannot tell"]
OUTCOMES: tuple[Outcome, ...] = ("worse", "better", "changed", "no difference shown", "cannot tell")
"""In the order in which they are read: what went wrong first."""
SHARED = ("label", "shape", "texture", "category")
"""Columns of rows that are the same for the same image, whichever classifier sees it."""


class Side(NamedTuple):
    """A classifier of a run."""

    run: Run
    name: str

    @property
    def entry(self) -> Mapping[str, Any]:
        """The manifest's entry of the classifier."""
        return next(c for c in self.run.manifest["classifiers"] if c["name"] == self.name)

    @property
    def cells(self) -> dict[str, Cell]:
        """Its cells by instrument, each of which is asked on one image set."""
        return {cell.instrument: cell for cell in self.run.cells if cell.classifier == self.name}

    def digest(self, images: str) -> str:
        """Of an image set of this name."""
        return next((s["digest"] for s in self.run.manifest["image_sets"] if s["name"] == images), "")


@dataclass(frozen=True)
class Change:
    """One measure of two classifiers, and what may be said of the difference."""

    instrument: str
    measure: str
    title: str
    unit: str
    better: str
    headline: bool
    images: str
    """The image set."""
    outcome: Outcome
    """Better, worse and changed (a measure without a better direction) only where the corrected p value is below .05;
    no difference shown only where the whole interval lies within five points."""
    was: float
    now: float
    """Both over the images in common."""
    value: float
    """By how much it is more now."""
    interval: tuple[float, float] | None
    n: int
    """Images in common."""
    p: float | None
    """Corrected for all measures of the comparison (Holm)."""
    note: str = ""
    """Why there is no interval, or which images were left out."""


@dataclass(frozen=True)
class Changes:
    """What changed from one classifier to another, and what could not be compared."""

    before: str
    after: str
    """What the two are called: their short names, unless these are the same."""
    changes: tuple[Change, ...]
    """Of all measures that are means over images: headlines first, then worse before better before the rest."""
    apart: tuple[tuple[str, str], ...] = ()
    """Instruments that one of the two has an answer of, and why it is not compared."""
    unpaired: tuple[str, ...] = ()
    """Headline measures of both that are no means over images, so that no paired difference is known."""
    verdicts: tuple[Mapping[str, Any], ...] = ()
    """The same as `paired.verdicts` gives them: a is before, b after, and the value a less b."""

    @property
    def headlines(self) -> list[Change]:
        return [change for change in self.changes if change.headline]

    @property
    def reasons(self) -> list[str]:
        """Why instruments are not compared, each reason once."""
        by_reason: dict[str, list[str]] = {}
        for instrument, why in self.apart:
            by_reason.setdefault(why, []).append(instrument)
        return [f"{', '.join(instruments)}: {why}" for why, instruments in by_reason.items()]

    def of(self, *outcomes: Outcome) -> list[Change]:
        """The headline measures with one of these outcomes."""
        return [change for change in self.headlines if change.outcome in outcomes]


def changes(runs: Sequence[Run]) -> list[Changes]:
    """What changed between two runs, classifier by classifier, or else between each two classifiers of all runs?

    Of two runs the classifiers are paired by their names; where each has one, these two are; where no names are
    the same, each is compared with each. Images are paired by name where both sets have the same name but not the
    same files; parameters must be the same, the number of images aside. All p values are corrected for each other.
    """
    return between(sides(runs))


def between(pairs: Sequence[tuple[Side, Side]]) -> list[Changes]:
    """What changed from the first to the second classifier of each pair? All p values are corrected for each other."""
    found = [_of_two(before, after) for before, after in pairs]
    verdicts = corrected([verdict for one in found for verdict in one.verdicts])
    whole = []
    for one in found:
        own, verdicts = verdicts[: len(one.verdicts)], verdicts[len(one.verdicts) :]
        ordered = [_change(verdict, one.notes.get(verdict["instrument"], "")) for verdict in own]
        ordered.sort(key=lambda change: (not change.headline, OUTCOMES.index(change.outcome)))
        whole.append(Changes(*one.names, tuple(ordered), tuple(one.apart), tuple(one.unpaired), tuple(own)))
    return whole


def nothing(runs: Sequence[Run], found: Sequence[Changes]) -> CueError:
    """The error that says why nothing of these runs can be compared."""
    why = "; ".join(dict.fromkeys(reason for one in found for reason in one.reasons))
    if not found:
        classifiers = [c["name"] for run in runs for c in run.manifest["classifiers"]]
        why = f"there is one classifier, {next(iter(classifiers), 'none')}"
    wanted = "two classifiers with the same instruments and parameters, on the same images"
    told = f"nothing can be compared: {why or 'no measure of both is a mean over images'}"
    return CueError(told, wanted=wanted, do="audit both with the same --images and instruments")


def sides(runs: Sequence[Run]) -> list[tuple[Side, Side]]:
    """Which two classifiers are compared, the earlier first."""
    every = [[Side(run, c["name"]) for c in run.manifest["classifiers"]] for run in runs]
    if len(every) != 2:
        unique = {(side.name, side.entry.get("digest")): side for these in every for side in these}
        return list(combinations(unique.values(), 2))
    before, after = every
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    for called in (str, short_name):
        same = [(a, b) for a, b in product(before, after) if called(a.name) == called(b.name)]
        if same and all(len({pair[i].name for pair in same}) == len(same) for i in (0, 1)):
            return same
    return list(product(before, after))


class _Two(NamedTuple):
    """What is found of two classifiers, not corrected yet."""

    names: tuple[str, str]
    verdicts: list[dict[str, Any]]
    notes: dict[str, str]
    """Of an instrument: which images were left out."""
    apart: list[tuple[str, str]]
    unpaired: list[str]


def _of_two(before: Side, after: Side) -> _Two:
    found = _Two(names(before, after), [], {}, [], [])
    mine, theirs = before.cells, after.cells
    for instrument in dict.fromkeys([*mine, *theirs]):
        a, b = mine.get(instrument), theirs.get(instrument)
        if not any(cell is not None and cell.status == "done" for cell in (a, b)):
            continue
        if why := _missing(a, "before") or _missing(b, "after"):
            found.apart.append((instrument, why))
        if a is None or b is None or why:
            continue
        if why := _differs(a, b) or _strangers(before, after, a, b):
            found.apart.append((instrument, why))
            continue
        if pairs := measured(a, b):
            counts = [cell.rows(columns=["id"])["id"].n_unique() for cell in (a, b)]
            if pairs[0]["n"] < max(counts):
                found.notes[instrument] = f"of {counts[0]:,} images before and {counts[1]:,} after"
        found.verdicts.extend(pairs)
        paired = {pair["measure"] for pair in pairs}
        found.unpaired.extend(m.label for m in _headlines(a) if m.name not in paired)
    return found


def names(before: Side, after: Side) -> tuple[str, str]:
    """What two classifiers are called: the shortest that tells them apart, of name, checkpoint and run folder."""
    both = before, after
    short = [short_name(side.name) for side in both]
    checkpoints = [Path(side.name.partition("@")[2]).stem for side in both]
    options = [
        short,
        [f"{name}@{stem}" if stem else name for name, stem in zip(short, checkpoints, strict=True)],
        [side.name for side in both],
        [f"{name} ({side.run.path.name})" for name, side in zip(short, both, strict=True)],
        [f"{name} ({side.run.place})" for name, side in zip(short, both, strict=True)],
    ]
    first, second = next((two for two in options if two[0] != two[1]), options[-1])
    return first, second


def _change(verdict: Mapping[str, Any], note: str) -> Change:
    said, better = verdict["said"], verdict["better"]
    outcome: Outcome = {"alike": "no difference shown", "cannot tell": "cannot tell"}.get(said, "changed")  # type: ignore[assignment]
    if better and outcome == "changed":
        outcome = "better" if said.startswith("b") else "worse"
    interval = verdict["interval"]
    was, now = verdict["means"]
    return Change(
        **{
            key: verdict[key] for key in ("instrument", "measure", "title", "unit", "better", "headline", "images", "n")
        },
        outcome=outcome,
        was=was,
        now=now,
        value=-verdict["value"],
        interval=(-interval[1], -interval[0]) if interval else None,
        p=verdict["p_holm"],
        note="; ".join(filter(None, (verdict["why"], note))),
    )


def _headlines(cell: Cell) -> list[Measure]:
    return [m for m in cell.finding.measures if m.headline and m.value is not None] if cell.finding else []


def _missing(cell: Cell | None, when: str) -> str:
    """Why a cell has no answer, "" where it has one."""
    if cell is None:
        return f"not asked {when}"
    word = {"failed": "failed", "partial": "not finished", "not applicable": "does not apply"}.get(cell.status)
    return f"{word} {when}: {cell.why or 'run its command again'}" if word else ""


def _differs(a: Cell, b: Cell) -> str:
    """What the two were asked otherwise, "" where nothing is."""
    if a.images != b.images:
        return f"other images: '{a.images}' before, '{b.images}' after"
    if a.identity["version"] != b.identity["version"]:
        return f"version {a.identity['version']} before, {b.identity['version']} after"
    params = a.identity["params"], b.identity["params"]
    other = [key for key in {**params[0], **params[1]} if key != "images" and params[0].get(key) != params[1].get(key)]
    told = (f"{key} = {params[0].get(key)} before, {params[1].get(key)} after" for key in other)
    return f"other parameters: {', '.join(told)}" if other else ""


def _strangers(before: Side, after: Side, a: Cell, b: Cell) -> str:
    """Why images of the same name are not the same, "" where they may be."""
    if before.digest(a.images) == after.digest(b.images):
        return ""
    rows = a.rows(), b.rows()
    same_space = before.entry.get("space") == after.entry.get("space")
    known = [c for c in SHARED if all(c in r.columns for r in rows) and (same_space or c != "label")]
    both = rows[0].select("id", *known).unique().join(rows[1].select("id", *known).unique(), on="id")
    if not both.height:
        return f"other images: '{a.images}' has no file of the same name in both"
    for column in known:
        if (other := both.filter(both[column].ne_missing(both[f"{column}_right"]))).height:
            return f"other images: '{other['id'][0]}' has another {column} before than after"
    return ""
