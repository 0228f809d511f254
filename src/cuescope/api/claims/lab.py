"""Claims tried: each experiment runs once, however many claims read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cuescope.api.audit import audit
from cuescope.api.claims.claim import DATA, INPUT_OF, ROOT, Claim, Experiment, Page, Reading, Trial, Work
from cuescope.api.claims.results import TURNED, Counter, Result
from cuescope.api.make import make
from cuescope.core.findings import Finding, Measure
from cuescope.core.naming import short_name
from cuescope.core.progress import Say, silent
from cuescope.core.stats import independent_difference
from cuescope.runs.comparisons import stored
from cuescope.runs.store import Run


class Found(Protocol):
    """What an experiment has found."""

    def take(self, reading: Reading) -> Measure:
        """The number that is asked for; without a value where it was not measured, with the reason."""
        ...


class Lab:
    """Where experiments leave their folders, and what they have found.

    `data` is the folder of real weights and photographs, None where there is none.
    """

    def __init__(self, out: Path, data: Path | None = None, say: Say | None = None) -> None:
        self.out, self.data, self.say = out, data, say or silent
        self._found: dict[str, Found] = {}

    def results(self, claim: Claim) -> tuple[Result, ...]:
        """What each trial of the claim says; those that need data are left out where there is none."""
        able = [trial for trial in claim.trials if self.data is not None or not trial.experiment.needs_data]
        return tuple(self._tried(trial) for trial in able)

    def _tried(self, trial: Trial) -> Result:
        found = self._of(trial.experiment)
        measure, other = found.take(trial.reading), None
        if trial.counter is not None:
            against = (self._of(trial.elsewhere) if trial.elsewhere else found).take(trial.counter)
            what = called(trial.counter) if trial.counter.what == trial.reading.what else _told(against, trial.counter)
            what = f"{what} in {trial.elsewhere.name}" if trial.elsewhere else what if trial.unless else TURNED
            other = Counter(what, against.value, against.interval, against.unit, trial.judge(against))
        return Result(
            experiment=trial.experiment.name,
            what=_told(measure, trial.reading),
            value=measure.value,
            interval=measure.interval,
            unit=measure.unit,
            n=measure.n,
            said=trial.judge(measure),
            why=measure.why,
            counter=other,
        )

    def _of(self, experiment: Experiment) -> Found:
        if experiment.name not in self._found:
            self.say(f"{experiment.name}:")
            for line in experiment.command.splitlines():
                self.say(f"  {line}")
            self._found[experiment.name] = self._run(experiment)
        return self._found[experiment.name]

    def _run(self, experiment: Experiment) -> Found:
        if isinstance(experiment, Page):
            return Table(experiment)
        if isinstance(experiment, Work):
            return Named(experiment.run(self.data))
        given: dict[str, Any] = dict(experiment.inputs)
        images = self.filled(experiment.images)
        for maker, how in experiment.makes.items():
            folder = self.out / f"{experiment.name}-{maker}"
            settings: dict[str, Any] = {
                key: self.filled(value) if isinstance(value, str) else value for key, value in how.items()
            }
            make(maker, images, folder, **settings)
            given[INPUT_OF.get(maker, maker).replace("-", "_")] = str(folder)
        given = {role: self.filled(text) for role, text in given.items()}
        models = [self.filled(model) for model in experiment.models]
        how = {
            "only": experiment.only,
            "settings": experiment.settings,
            "out": self.out / experiment.name,
            "limit": experiment.limit,
        }
        run = audit(*models, images=images, **how, **given)
        return Audited(run, experiment.models)

    def filled(self, text: str) -> str:
        """The text with the data folder in it."""
        return text.replace(DATA, str(self.data))


class Named:
    """Measures by name."""

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self.measures = measures

    def take(self, reading: Reading) -> Measure:
        if reading.kind == "apart":
            return between(*(self.measures[name] for name in reading.what))
        return self.measures[reading.what[0]]


class Audited:
    """A finished audit."""

    def __init__(self, run: Run, models: tuple[str, ...]) -> None:
        names = [classifier["name"] for classifier in run.manifest["classifiers"]]
        self.run, self.names = run, dict(zip(models, names, strict=True))
        self.compared = run.made("comparisons.json")["comparisons"]
        self.pairs = stored.read(run)[0]

    def take(self, reading: Reading) -> Measure:
        models = [self.names[model] for model in reading.models]
        several = [what.split(".", 1) for what in reading.what]
        if reading.kind == "less":
            return self._less(*several[0], *models)
        if reading.kind == "pair":
            instrument, name = several[0]
            both = [p.finding for p in self.pairs if {p.a, p.b} == {*models} and p.finding.instrument == instrument]
            return _measure(both[0], name) if both else Measure(name, None, why="the two were not compared")
        asked = zip(several, models, strict=True)
        found = [_measure(self.run.finding(instrument, model), name) for (instrument, name), model in asked]
        return found[0] if reading.kind == "of" else between(*found)

    def _less(self, instrument: str, name: str, model: str, other: str) -> Measure:
        for one in self.compared:
            if (one["instrument"], one["measure"]) == (instrument, name) and {one["a"], one["b"]} == {model, other}:
                turned = -1.0 if one["a"] == other else 1.0
                low, high = sorted(turned * end for end in one["interval"] or (0.0, 0.0))
                unit = "difference" if one["unit"] in ("share", "probability") else one["unit"]
                interval = (low, high) if one["interval"] else None
                return Measure(name, turned * one["value"], unit, one["n"], interval, one["why"], one["title"])
        return Measure(name, None, why="the two were not compared")


def _measure(finding: Finding, name: str) -> Measure:
    if finding.why:
        return Measure(name, None, why=finding.why)
    return finding.get(name) or Measure(name, None, why=f"{finding.instrument} has no {name} here")


def between(one: Measure, other: Measure) -> Measure:
    """One measure less another, as if of different images."""
    title = one.label if one.label == other.label else f"{one.label}, less {other.label}"
    if one.value is None or other.value is None:
        return Measure("apart", None, why=one.why or other.why, title=title)
    interval = independent_difference(one.value, one.interval, other.value, other.interval)
    unit = "difference" if one.unit in ("share", "probability") else one.unit
    why = "" if interval else one.why or other.why
    return Measure("apart", one.value - other.value, unit, min(one.n, other.n), interval, why, title)


SPAN = re.compile(r"([+-]?[\d.]+)\s*%?[^(]*\(([+-]?[\d.]+)\s*%?\s*(?:to|–|-)\s*([+-]?[\d.]+)")


class Table:
    """A table of a page in docs/, whose cells are "value (low to high)", in percent or points."""

    def __init__(self, page: Page) -> None:
        file = ROOT / page.file
        self.page, self.lines = page, file.read_text().splitlines() if file.is_file() else []

    def take(self, reading: Reading) -> Measure:
        rows = [self._row(title) for title in reading.what]
        return between(*rows) if reading.kind == "apart" else rows[0]

    def _row(self, title: str) -> Measure:
        for line in self.lines:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if line.startswith("|") and cells[0] == title and len(cells) > self.page.column:
                text = cells[self.page.column].replace("−", "-")
                if numbers := SPAN.match(text):
                    value, low, high = (float(number) / 100 for number in numbers.groups())
                    return Measure(title, value, "difference", interval=(low, high), title=title)
        why = f"see {self.page.file}" if self.lines else f"{self.page.file} is not here: it is in the source checkout"
        return Measure(title, None, why=why, title=title)


def _told(measure: Measure, reading: Reading) -> str:
    return f"{measure.label}, {called(reading)}".removesuffix(", ")


def called(reading: Reading) -> str:
    """The models of a reading as people call them; what is measured where it names none."""
    names = list(
        dict.fromkeys(short_name(model) + ("@random" if "@random" in model else "") for model in reading.models)
    )
    between = {"less": " less ", "apart": " less "}.get(reading.kind, " and ")
    return between.join(names)
