"""What a claim is: a sentence of a source, where it stands, what tries it here, and between which bounds it holds.

Claims are data and import no torch. Whether one holds is said of the whole interval of what was measured, never of a
point; each trial also names a case in which the same bounds must not be kept, and that case is measured beside it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cuescope.core.findings import Measure

Said = Literal["confirmed", "surely not", "cannot tell", "not measured"]
DATA = "{data}"
"""Stands for the folder given with --data."""
CONGRUENT, SHAPE, BAGNET, BOW = (f"cuescope/world-{name}" for name in ("congruent", "shape", "bagnet", "bow"))
"""Networks of the built-in world: one found texture enough, one goes by shape, two see 9 px at a time."""
RANDOM = f"{CONGRUENT}@random"
SQUEEZE, MOBILE = (
    f"torchvision/{name}@{DATA}/weights/{name}.safetensors" for name in ("squeezenet1_1", "mobilenet_v2")
)


@dataclass(frozen=True)
class Bench:
    """One audit, which several claims read. `makes` is what is made of its images first, by a maker's name."""

    name: str
    models: tuple[str, ...]
    images: str
    only: tuple[str, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    makes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limit: int | None = None

    @property
    def needs_data(self) -> bool:
        return any(DATA in text for text in (self.images, *self.models, *self.inputs.values()))

    @property
    def command(self) -> str:
        """What does the same in a shell, a command a line."""
        lines = []
        for maker, how in self.makes.items():
            options = [f"--{key.replace('_', '-')}={value}" for key, value in how.items()]
            lines.append(["make", maker, self.images, f"claims/{self.name}-{maker}", *options])
        words = ["audit", *self.models, "--images", self.images]
        for role, given in {**self.inputs, **{m: f"claims/{self.name}-{m}" for m in self.makes}}.items():
            words += [f"--{INPUT_OF.get(role, role).replace('_', '-')}", given]
        words += ["--only", ",".join(self.only)]
        words += [word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")]
        words += ["--limit", str(self.limit)] if self.limit else []
        lines.append([*words, "--out", f"claims/{self.name}"])
        return "\n".join(" ".join(_quoted(word) for word in ["cuescope", *line]) for line in lines)


def _quoted(word: str) -> str:
    # The data folder's place is filled in by hand.
    return word if DATA in word else shlex.quote(word)


INPUT_OF = {"distorted": "distortions"}
"""The input that takes what a maker makes, where it has another name."""


@dataclass(frozen=True)
class Work:
    """A measurement that no instrument makes: a function that gives measures by name."""

    name: str
    does: str
    """What is measured, in a line."""
    run: Callable[[Path | None], Mapping[str, Measure]]
    """Of the folder given with --data, if any."""
    needs_data: bool = False

    @property
    def command(self) -> str:
        return f"# {self.does}\ncuescope claims run {self.name}"


@dataclass(frozen=True)
class Page:
    """A table in docs/ that a script writes: minutes to hours of training, so it is read and not run again."""

    name: str
    file: str
    script: str
    column: int
    """Of the table, from 0: what stands in it is "value (low to high)"."""
    needs_data: bool = False

    @property
    def command(self) -> str:
        return f"python {self.script}   # writes {self.file}"


Experiment = Bench | Work | Page


@dataclass(frozen=True)
class Reading:
    """Which number: a measure, its difference between two models, one of a pair, or the difference of two measures."""

    kind: Literal["of", "less", "pair", "apart"]
    what: tuple[str, ...]
    """Of an audit "instrument.measure"; else the name of a measure, or the row of a page."""
    models: tuple[str, ...] = ()


def of(what: str, model: str = "") -> Reading:
    """A measure, of a model."""
    return Reading("of", (what,), (model,) if model else ())


def less(what: str, model: str, other: str) -> Reading:
    """A measure of one model less that of another, image by image."""
    return Reading("less", (what,), (model, other))


def pair(what: str, model: str, other: str) -> Reading:
    """A measure of two models at once, such as the correlation of their logits."""
    return Reading("pair", (what,), (model, other))


def apart(what: str, other: str, model: str = "", of_other: str = "") -> Reading:
    """One measure less another, of the same model or of two, as if of different images: a rather wide interval."""
    return Reading("apart", (what, other), (model, of_other or model) if model else ())


def gap(what: str, model: str, other: str) -> Reading:
    """A measure of one model less that of another, as if of different images: where it is no mean over images."""
    return apart(what, what, model, other)


@dataclass(frozen=True)
class Trial:
    """The claim holds where the whole interval of `reading` lies above `low` and below `high`."""

    experiment: Experiment
    reading: Reading
    low: float = -math.inf
    high: float = math.inf
    unless: Reading | None = None
    """What the same must not hold of. A difference turned round, where none is given."""
    elsewhere: Experiment | None = None
    """The experiment that `unless` is of, where it is another one."""
    why: str = ""
    """What the experiment leaves open."""

    @property
    def counter(self) -> Reading | None:
        """What must not be confirmed; None of a page, whose table is judged alone."""
        one = self.reading
        if self.unless is not None or isinstance(self.experiment, Page):
            return self.unless
        turned = replace(one, what=one.what[::-1], models=one.models[::-1])
        return turned if one.kind in ("less", "apart") else None

    def judge(self, measure: Measure) -> Said:
        """What may be said of the whole interval."""
        if measure.interval is None:
            return "not measured" if measure.value is None else "cannot tell"
        if measure.interval[0] > self.low and measure.interval[1] < self.high:
            return "confirmed"
        outside = measure.interval[1] <= self.low or measure.interval[0] >= self.high
        return "surely not" if outside else "cannot tell"


@dataclass(frozen=True)
class Claim:
    """One checkable sentence. It is tried, by one or more trials that must all confirm it, or `untried` says why not.

    >>> Claim("zfnet-voc", "table 6", "On PASCAL VOC it is a little worse.", untried="VOC is not here").trials
    ()
    """

    id: str
    place: str
    says: str
    trials: tuple[Trial, ...] = ()
    untried: str = ""

    def __post_init__(self) -> None:
        if bool(self.trials) == bool(self.untried):
            raise ValueError(f"claim {self.id} is tried, or says why not")


@dataclass(frozen=True)
class Source:
    """A source and its claims; the first word of their ids is its name."""

    name: str
    title: str
    papers: str
    claims: tuple[Claim, ...]


ROOT = Path(__file__).resolve().parents[4]
"""The checkout, where there is one."""
