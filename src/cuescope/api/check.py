"""Do the intervals of a run support what is required of its classifiers? For continuous integration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from cuescope.core.errors import CueError, unknown
from cuescope.core.findings import Measure
from cuescope.core.naming import short_name
from cuescope.runs.comparisons.paired import ALIKE, verdicts
from cuescope.runs.store import Cell, Run

Outcome = Literal["supported", "refused", "cannot tell", "missing"]
REQUIREMENT = re.compile(r"(?:(\w+)\.)?(\w+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)")


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
        return cls(instrument or "", measure, sign, float(number) / (100 if percent else 1))

    def __str__(self) -> str:
        return f"{self.instrument}{'.' if self.instrument else ''}{self.measure} {self.sign} {self.bound:g}"

    def outcome(self, measure: Measure) -> tuple[Outcome, str]:
        """What the interval says of the bound: all of it keeps it, none of it does, or it holds the bound."""
        if measure.value is None:
            return "missing", measure.why
        if measure.interval is None:
            return "cannot tell", f"{measure.value:.4g}, {measure.why or 'without an interval'}"
        low, high = measure.interval
        why = f"{measure.value:.4g} ({low:.4g} to {high:.4g}), {measure.n:,} images"
        keeps = {">=": low >= self.bound, ">": low > self.bound, "<=": high <= self.bound, "<": high < self.bound}
        fails = {">=": high < self.bound, ">": high <= self.bound, "<=": low > self.bound, "<": low >= self.bound}
        return ("supported" if keeps[self.sign] else "refused" if fails[self.sign] else "cannot tell"), why


def check(
    run: str | Path, require: Sequence[str] = (), *, baseline: str | Path | None = None, no_worse: bool = False
) -> list[Checked]:
    """Does each classifier of a run keep each requirement, and is it no worse than a baseline?

    A requirement is supported only where the whole interval keeps the bound. With `no_worse` every measure that has a
    better direction is compared with the run `baseline` over the same images, image by image, corrected for their
    number: it is supported where the classifier is better, or surely less than five points worse.

    Raises CueError for a run that is none, a measure that the run does not know, and a baseline on other images.

    >>> check("runs/mine", ["top1>=.7"])  # doctest: +SKIP
    """
    opened, asked = Run.open(run), [Requirement.of(text) for text in require]
    if no_worse != (baseline is not None) or not (asked or no_worse):
        wanted = "--require, or --baseline RUN together with --no-worse"
        raise CueError("nothing is required", wanted=wanted, do='as in --require "top1>=.7"')
    found = [one for requirement in asked for one in _required(opened, requirement)]
    return found + (list(_no_worse(opened, Run.open(baseline))) if baseline is not None else [])


def _required(run: Run, requirement: Requirement) -> Iterable[Checked]:
    cells = [cell for cell in run.cells if requirement.instrument in ("", cell.instrument)]
    if not cells:
        raise unknown("instrument of this run", requirement.instrument, {cell.instrument for cell in run.cells})
    known: dict[str, set[str]] = {}
    for cell in cells:
        for measure in cell.finding.measures if cell.finding else ():
            known.setdefault(measure.name, set()).add(cell.instrument)
    instruments = known.get(requirement.measure, set())
    if not instruments and not requirement.instrument:
        raise unknown("measure of this run", requirement.measure, known)
    if len(instruments) > 1:
        options = " or ".join(f"{name}.{requirement.measure}" for name in sorted(instruments))
        found = f"{len(instruments)} instruments have a measure '{requirement.measure}'"
        raise CueError(found, wanted="one of them", do=f"require {options}")
    for cell in cells:
        if cell.instrument in (instruments or {requirement.instrument}):
            yield _outcome(cell, requirement)


def _outcome(cell: Cell, requirement: Requirement) -> Checked:
    who = cell.classifier, cell.images, str(requirement)
    measure = cell.finding.get(requirement.measure) if cell.finding else None
    if measure is None:
        return Checked(*who, "missing", cell.why or f"{cell.instrument} measured no {requirement.measure}")
    return Checked(*who, *requirement.outcome(measure))


def _no_worse(run: Run, baseline: Run) -> Iterable[Checked]:
    new, old = ({c["name"] for c in one.manifest["classifiers"]} for one in (run, baseline))
    found = False
    for verdict in verdicts([baseline, run]):
        a, b = verdict["a"], verdict["b"]
        if a not in old or b not in new or not verdict["better"] or (len(old) > 1 and short_name(a) != short_name(b)):
            continue
        # The values are a less b, of which b is the new one: where higher is better, what it is worse by.
        found, sign = True, 1 if verdict["better"] == "higher" else -1
        worse = sorted(sign * x for x in verdict["interval"] or ())
        outcome: Outcome = "refused" if verdict["said"] == "a is better" else "cannot tell"
        shares = verdict["unit"] in ("share", "probability")
        if verdict["said"] == "b is better" or (shares and worse and worse[1] < ALIKE):
            outcome = "supported"
        why = f"worse by {sign * verdict['value']:.4g}" + (f" ({worse[0]:.4g} to {worse[1]:.4g})" if worse else "")
        required = f"{verdict['instrument']}.{verdict['measure']} no worse than {short_name(a)}"
        yield Checked(b, "", required, outcome, f"{why}, {verdict['n']:,} images")
    if not found:
        wanted = "another classifier with the same instruments, parameters and images"
        raise CueError(
            f"nothing of '{run.path}' can be compared with '{baseline.path}'", wanted=wanted, do="audit both"
        )


def junit(found: Sequence[Checked]) -> str:
    """The outcomes as JUnit's XML, a test case each; what is not supported is a failure."""
    lost = sum(one.outcome != "supported" for one in found)
    suite = ElementTree.Element("testsuite", name="cuescope check", tests=str(len(found)), failures=str(lost))
    for one in found:
        case = ElementTree.SubElement(
            suite, "testcase", classname=one.classifier, name=f"{one.required} {one.images}".rstrip()
        )
        if one.outcome != "supported":
            ElementTree.SubElement(case, "failure", message=f"{one.outcome}: {one.why}")
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def markdown(found: Sequence[Checked]) -> str:
    """The outcomes as a table in Markdown, for a pull request."""
    lines = ["| classifier | images | required | outcome | measured |", "| --- | --- | --- | --- | --- |"]
    rows = ([short_name(one.classifier), one.images, one.required, one.outcome, one.why] for one in found)
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
