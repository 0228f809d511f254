"""Do the intervals of a run support what is required of its classifiers? For continuous integration."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from cuescope.core.errors import CueError, unknown
from cuescope.core.findings import Measure
from cuescope.core.intervals import UNITS
from cuescope.core.naming import short_name
from cuescope.report.markdown import table
from cuescope.runs.cell import Cell
from cuescope.runs.comparisons.changes import Change, Changes, Side, changes, nothing, sides
from cuescope.runs.comparisons.paired import ALIKE
from cuescope.runs.store import Run

Outcome = Literal["supported", "refused", "cannot tell", "missing"]
REQUIREMENT = re.compile(r"(?:(\w+)\.)?(\w+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)")
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML may hold."""


@dataclass(frozen=True)
class Checked:
    """One requirement of one classifier, and what the data say of it."""

    classifier: str
    images: str
    """The image set; empty where two runs are compared, each over its own images in common."""
    required: str
    outcome: Outcome
    why: str
    """The number with its interval, or why there is none."""


@dataclass(frozen=True)
class Requirement:
    """A bound that the whole interval of a measure must keep.

    >>> Requirement.of("shape_bias >= 30%")
    Requirement(instrument='', measure='shape_bias', sign='>=', bound=0.3)
    """

    instrument: str
    measure: str
    sign: str
    bound: float

    @classmethod
    def of(cls, text: str) -> Requirement:
        """From MEASURE>=NUMBER or INSTRUMENT.MEASURE<=NUMBER, a share also in percent. Raises CueError for others."""
        found = REQUIREMENT.fullmatch(text.strip())
        if not found:
            wanted = "MEASURE>=NUMBER or INSTRUMENT.MEASURE<=NUMBER, as in top1>=.7"
            raise CueError(f"'{text}' is no requirement", wanted=wanted, do="quote it: the shell reads < and >")
        instrument, measure, sign, number, percent = found.groups()
        bound = float(number) / (100 if percent else 1)
        if not math.isfinite(bound):
            raise CueError(f"'{text}' is no requirement: {number} is too large", wanted="a number", do="correct it")
        return cls(instrument or "", measure, sign, bound)

    def __str__(self) -> str:
        return f"{self.instrument}{'.' if self.instrument else ''}{self.measure} {self.sign} {self.bound:g}"

    def outcome(self, measure: Measure) -> tuple[Outcome, str]:
        """What the interval says of the bound: all of it keeps it, none of it does, or it holds the bound."""
        if measure.value is None:
            return "missing", measure.why
        if measure.interval is None:
            return "cannot tell", f"{measure.value:.4g}, {measure.why or 'without an interval'}"
        low, high = measure.interval
        why = f"{measure.value:.4g} ({low:.4g} to {high:.4g}), n = {measure.n:,}"
        keeps = {">=": low >= self.bound, ">": low > self.bound, "<=": high <= self.bound, "<": high < self.bound}
        fails = {">=": high < self.bound, ">": high <= self.bound, "<=": low > self.bound, "<": low >= self.bound}
        return ("supported" if keeps[self.sign] else "refused" if fails[self.sign] else "cannot tell"), why


def check(
    run: str | Path | Run,
    require: str | Sequence[str] = (),
    *,
    baseline: str | Path | Run | None = None,
    no_worse: bool = False,
    margin: float = ALIKE,
) -> list[Checked]:
    """Does each classifier of a run keep each requirement, and is it no worse than a baseline?

    A requirement is supported only where the whole interval keeps the bound. With `no_worse` every headline measure
    with a better direction is compared with the run `baseline` over the images in common, as `compare` does: it is
    supported where the classifier is better, or surely worse by less than `margin`. What the baseline measured and
    the run did not, or otherwise, is missing; measures of fewer than five images are left out.

    Raises CueError for a run that is none or not finished, a measure that the run does not know, and a baseline with
    which nothing can be compared.

    >>> check("runs/mine", ["top1>=.7"])  # doctest: +SKIP
    """
    texts = [require] if isinstance(require, str) else require
    asked = list(dict.fromkeys(Requirement.of(text) for text in texts))
    if no_worse != (baseline is not None) or not (asked or no_worse):
        found = "nothing is required" if not no_worse and baseline is None else "half of a comparison is required"
        wanted = "--require, or --baseline RUN together with --no-worse"
        raise CueError(found, wanted=wanted, do='as in --require "top1>=.7"')
    if not 0 <= margin < math.inf:
        raise CueError(f"the margin is {margin}", wanted="a number from 0", do="as in --margin .05")
    opened = _finished(run)
    known = _Known(opened) if asked else None
    found = [one for requirement in asked if known for one in known.outcomes(requirement)]
    return found + (list(_no_worse(opened, _finished(baseline), margin)) if baseline is not None else [])


def _finished(run: str | Path | Run) -> Run:
    opened = run if isinstance(run, Run) else Run.open(run)
    opened.check_finished()
    return opened


class _Known:
    """The measures of a run, read once."""

    def __init__(self, run: Run) -> None:
        self.cells = [(cell, cell.finding) for cell in run.cells]
        self.unasked = {one["instrument"]: one["why"] for one in run.manifest.get("unasked", ())}

    def outcomes(self, requirement: Requirement) -> Iterable[Checked]:
        """What each classifier's interval says. Raises CueError for what the run does not know."""
        instrument = requirement.instrument or self._instrument(requirement)
        cells = [(cell, finding) for cell, finding in self.cells if cell.instrument == instrument]
        if not cells:
            raise self._unasked(instrument) or unknown(
                "instrument of this run", instrument, {cell.instrument for cell, _ in self.cells}
            )
        answers = [finding for cell, finding in cells if finding and cell.status == "done"]
        measures = [measure.name for finding in answers for measure in finding.measures]
        if answers and requirement.measure not in measures:
            raise unknown(f"measure of {instrument}", requirement.measure, measures)
        for cell, finding in cells:
            who = cell.classifier, cell.images, str(requirement)
            measure = finding.get(requirement.measure) if finding else None
            if measure is None:
                yield Checked(*who, "missing", _unanswered(cell) or f"{instrument} measured no {requirement.measure}")
            else:
                yield Checked(*who, *requirement.outcome(measure))

    def _instrument(self, requirement: Requirement) -> str:
        """Which instrument has the measure. Raises CueError where none has, or several."""
        name, known = requirement.measure, dict[str, set[str]]()
        for cell, finding in self.cells:
            for measure in finding.measures if finding else ():
                known.setdefault(measure.name, set()).add(cell.instrument)
        # Instruments without any answer have no measures; most have one of their own name.
        alone = {cell.instrument for cell, _ in self.cells} & {name}
        instruments = known.get(name) or alone
        if not instruments:
            raise self._unasked(name) or unknown("measure of this run", name, known)
        if len(instruments) > 1:
            options = " or ".join(f"{instrument}.{name}" for instrument in sorted(instruments))
            found = f"{len(instruments)} instruments have a measure '{name}'"
            raise CueError(found, wanted="one of them", do=f"require {options}")
        return next(iter(instruments))

    def _unasked(self, instrument: str) -> CueError | None:
        if instrument not in self.unasked:
            return None
        found = f"{instrument} was not asked in this run: {self.unasked[instrument]}"
        return CueError(found, wanted="a run that measured it", do="audit again with what it needs")


def _unanswered(cell: Cell) -> str:
    """Why a cell has no answer, "" where it has one."""
    word = {"failed": "failed", "partial": "not finished", "not applicable": "does not apply"}.get(cell.status)
    return f"{word}: {cell.why}" if word else ""


def _no_worse(run: Run, baseline: Run, margin: float) -> Iterable[Checked]:
    found, pairs = changes([baseline, run]), sides([baseline, run])
    if not any(one.changes for one in found):
        raise nothing([baseline, run], found)
    for one, (before, after) in zip(found, pairs, strict=True):
        gated = _gated(before)
        for change in one.changes:
            if change.measure in gated.get(change.instrument, ()):
                yield _kept(after, change, one, margin)
        for instrument, why in one.apart:
            for name in gated.get(instrument, ()):
                yield Checked(after.name, "", f"{instrument}.{name} no worse than {one.before}", "missing", why)
    for name in sorted({c["name"] for c in run.manifest["classifiers"]} - {after.name for _, after in pairs}):
        yield Checked(name, "", "no worse than the baseline", "missing", "the baseline has no classifier of this name")


def _gated(before: Side) -> dict[str, list[str]]:
    """The measures of the baseline that must not be worse, by instrument."""
    answers = {name: cell.finding for name, cell in before.cells.items() if cell.status == "done"}
    return {
        name: [m.name for m in finding.measures if m.headline and m.better and m.per_image and m.n >= UNITS]
        for name, finding in answers.items()
        if finding
    }


def _kept(after: Side, change: Change, of: Changes, margin: float) -> Checked:
    sign = -1 if change.better == "higher" else 1
    worse = sorted(sign * x for x in change.interval or ())
    outcome: Outcome = "refused" if change.outcome == "worse" else "cannot tell"
    if change.outcome == "better" or (change.unit in ("share", "probability") and worse and worse[1] < margin):
        outcome = "supported"
    span = f" ({change.interval[0]:+.4g} to {change.interval[1]:+.4g})" if change.interval else ""
    note = f" {change.note}" if change.note else ""
    why = f"{change.was:.4g} before, {change.now:.4g} now: {change.value:+.4g}{span}, {change.n:,} images{note}"
    required = f"{change.instrument}.{change.measure} no worse than {of.before} ({change.better} is better)"
    return Checked(after.name, change.images, required, outcome, why)


def junit(found: Sequence[Checked]) -> str:
    """The outcomes as JUnit's XML, a test case each; what is not supported is a failure."""
    counts = {"tests": len(found), "failures": sum(one.outcome != "supported" for one in found), "errors": 0}
    texts = {key: str(count) for key, count in counts.items()}
    root = ElementTree.Element("testsuites", texts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "cuescope check", **texts, "skipped": "0", "time": "0"})
    for one in found:
        name = f"{one.required} on {one.images}" if one.images else one.required
        about = {"classname": one.classifier, "name": name, "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", {key: NO_XML.sub("?", text) for key, text in about.items()})
        if one.outcome != "supported":
            why = NO_XML.sub("?", f"{one.outcome}: {one.why}")
            ElementTree.SubElement(case, "failure", message=why, type=one.outcome).text = why
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def markdown(found: Sequence[Checked]) -> str:
    """The outcomes as a sentence and a table in Markdown, for a pull request; what is not supported comes first."""
    kept = sum(one.outcome == "supported" for one in found)
    short = len({short_name(one.classifier) for one in found}) == len({one.classifier for one in found})
    rows = [
        (one.outcome, one.required, one.why, short_name(one.classifier) if short else one.classifier, one.images)
        for one in sorted(found, key=lambda one: one.outcome == "supported")
    ]
    whole = table(["outcome", "required", "measured", "classifier", "images"], rows)
    return f"**cuescope check: {kept} of {len(found)} requirements supported**\n\n{whole}\n"
