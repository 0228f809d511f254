"""What was found: measures with their intervals, panels to draw, and a plain sentence."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec
import numpy as np

from cuescope.core.display import Displayed
from cuescope.core.matrix import Column
from cuescope.core.naming import short_name
from cuescope.core.verdicts import UNSAID, Verdict

SCHEMA = 3
"""Version of the JSON that findings are written in."""

Unit = Literal["share", "probability", "difference", "images", "px", "correlation", "kappa", "nats", ""]


@dataclass(frozen=True)
class Published:
    """A number from the literature to stand beside a measure, with where it is printed and by what rule."""

    who: str
    value: float
    source: str


@dataclass(frozen=True)
class Measure:
    """One number: its value, unit, how many observations, and a 95 % interval.

    A value that could not be measured is None with the reason in `why`, never 0 and never NaN. Where there is a value
    but no interval, under five independent units say, `why` gives the reason for that. Intervals are those of
    `core.stats`, which makes measures; what is said of a measure is said of its whole interval (`above`, `below`,
    `within`), so without an interval nothing is.

    >>> Measure("top1", None, "share", n=0, why="no image has a label").value is None
    True
    """

    name: str
    value: float | None
    unit: Unit = ""
    n: int = 0
    interval: tuple[float, float] | None = None
    why: str = ""
    title: str = ""
    """What a reader sees; the name with spaces where empty."""
    count: int | None = None
    """The numerator where the value is a share of n: 297 of 500."""
    chance: float | None = None
    better: Literal["higher", "lower", ""] = ""
    published: tuple[Published, ...] = ()
    headline: bool = False
    """Shown large, and in the table that sets classifiers side by side."""
    per_image: str = ""
    """The column that it is the mean of over images, so that two classifiers are compared in pairs: one of the rows, or
    one of what is concluded of each image."""
    clusters: tuple[str, ...] = ()
    """Columns of the rows, two at most, that say which images share something, so that they are not independent; two
    classifiers are compared with them too."""

    def __post_init__(self) -> None:
        if self.value is None and not self.why:
            raise ValueError(f"measure {self.name}: a missing value needs its reason in `why`")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"measure {self.name}: {self.value} is no value; use None with a reason")
        if self.interval is not None and not all(map(math.isfinite, self.interval)):
            raise ValueError(f"measure {self.name}: interval {self.interval} is not finite")

    @property
    def label(self) -> str:
        return self.title or self.name.replace("_", " ")

    def above(self, bound: float | None) -> bool:
        """Whether the whole interval lies above the bound. False without an interval or a bound.

        >>> Measure("top1", 0.5, "share", 100, (0.4, 0.6)).above(0.25)
        True
        """
        return bound is not None and self.interval is not None and self.interval[0] > bound

    def below(self, bound: float | None) -> bool:
        """Whether the whole interval lies below the bound. False without an interval or a bound."""
        return bound is not None and self.interval is not None and self.interval[1] < bound

    def within(self, low: float, high: float) -> bool:
        """Whether the whole interval lies inside this margin: what "no difference" needs. False without an interval.

        >>> Measure("lost", 0.0, "difference", 10, (-0.2, 0.2)).within(-0.05, 0.05)
        False
        """
        return self.interval is not None and low <= self.interval[0] and self.interval[1] <= high


@dataclass(frozen=True)
class About:
    """What `conclude` may say of where the rows come from, in names; and what is too large to stand in them."""

    classifier: str
    images: str
    classes: tuple[str, ...]
    """Class names of the classifier, in the order of its logits."""
    space: str = ""
    """Name of the classifier's class space, as in "imagenet-1k"."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the instrument found out about the classifier before its first batch (Observer.facts)."""
    large: Mapping[str, Column] = field(default_factory=dict, repr=False)
    """Columns that do not stand in the rows since they would not fit in memory (Instrument.large)."""


def about_two(about: tuple[About, About]) -> str:
    """What a finding on two classifiers calls them."""
    return f"{about[0].classifier} and {about[1].classifier}"


def short_names(about: tuple[About, About]) -> tuple[str, str]:
    """The short names of two classifiers; their whole names where both would be called the same."""
    first, second = short_name(about[0].classifier), short_name(about[1].classifier)
    return (first, second) if first != second else (about[0].classifier, about[1].classifier)


@dataclass(frozen=True, eq=False)
class Map:
    """Numbers laid over an image: (h, w), stretched over `extent`, or over the whole image where that is None.

    `extent` is (x0, y0, x1, y1) in shares of the image's width and height. "heat" runs from `low` to `high`;
    "signed" is symmetric about 0; "labels" holds indices into `legend`, laid on as strongly as `strength` says, (h, w)
    in [0, 1], else the most frequent one thinly and the others alike. A map that is `alone` is drawn beside the
    image, not over it: its cells are no places of the image.
    """

    kind: Literal["heat", "signed", "labels"]
    values: list[list[int | float | None]]
    name: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    legend: tuple[str, ...] = ()
    extent: tuple[float, float, float, float] | None = None
    alone: bool = False
    strength: list[list[int | float | None]] | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment of an image that changes: what the classifier sees, (H, W, 3) uint8, and what it says to it."""

    pixels: np.ndarray[Any, Any]
    answer: str
    probability: float
    """Of the answer."""
    rank: int
    """Place of the answer among all answers, the most frequent first: it has the color of that place."""
    caption: str = ""
    """What was done to the image, in a few words."""


@dataclass(frozen=True, eq=False)
class Inset:
    """Another image beside that of a figure: (H, W, 3) uint8, or the file that the run folder wrote them to."""

    name: str
    pixels: np.ndarray[Any, Any] | None = None
    file: str = ""


@dataclass(frozen=True, eq=False)
class Figure:
    """One image of a panel, as the classifier saw it, with insets and maps laid over it side by side.

    An instrument gives `pixels`, (H, W, 3) uint8; the run folder writes them to `file` and drops them.
    """

    caption: str
    pixels: np.ndarray[Any, Any] | None = None
    file: str = ""
    maps: tuple[Map, ...] = ()
    insets: tuple[Inset, ...] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """Something to look at, as data; `draw` and the report turn it into marks.

    Panels of the same name from several classifiers are drawn together. The data of each kind:

    - dots: {"unit", "rows": [{"label", "value", "low", "high", "n"}], "marks": [{"who", "values": [...]}]},
      one row a category; marks are reference values in the order of the rows. value may be None. A "total" is one
      more row, drawn apart, whose marks have lines through all the others; then marks have its value last. Marks may
      have bands, "low" and "high", in the same order. "ends" are two words for the limits of the scale.
    - lines: {"x": label, "y": label, "series": [{"name", "x": [...], "y": [...], "low": [...], "high": [...]}],
      "diagonal": bool, "marks": [{"who", "x": [...], "y": [...]}], "ticks": [[x, text], ...], "y_ends": [low, high],
      "chance": y}; all but x, y and series may be absent. marks are curves of others, ticks are all places of the axis
      and what they are called, and chance is a line across.
    - bars: {"x": label, "y": label, "edges": [n + 1], "values": [n]}
    - points: {"x": label, "y": label, "points": [{"x", "y", "label", "n"}], "diagonal": bool}, a scatter; n, on how
      many observations a point rests, may be absent. With "diagonal" both axes have the same limits.
    - table: {"columns": [...], "rows": [[...], ...]}, cells are text or numbers
    - images: {} with `figures`
    """

    name: str
    kind: Literal["dots", "lines", "bars", "points", "table", "images"]
    title: str
    caption: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, eq=False)
class Look:
    """What an instrument shows of one image: a sentence about this image, and panels, the best one first.

    Nothing in it is of a set: no rate, no mean over images, no interval. `frames` show the image as it changes.
    """

    sentence: str
    panels: tuple[Panel, ...] = ()
    frames: tuple[Frame, ...] = ()


def dot(
    label: str, value: float | None, interval: tuple[float, float] | None = None, n: int | None = None
) -> dict[str, Any]:
    """A row of a panel of kind "dots"."""
    low, high = interval or (None, None)
    return {"label": label, "value": value, "low": low, "high": high, **({} if n is None else {"n": n})}


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What an instrument says of all its rows; the runner makes a Finding of it."""

    measures: tuple[Measure, ...] = ()
    panels: tuple[Panel, ...] = ()
    verdict: Verdict = UNSAID
    caveats: tuple[str, ...] = ()
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """What is concluded of each image, a column each, `id` among them: those of the instrument's `concluded`."""

    def __post_init__(self) -> None:
        if not isinstance(self.verdict, Verdict):
            raise TypeError(f"a verdict is made by `self.say(name, ...)`, not by {self.verdict!r}")

    def __getitem__(self, name: str) -> Measure:
        return _named(self.measures, name)

    @property
    def sentence(self) -> str:
        return self.verdict.sentence


def _named(measures: tuple[Measure, ...], name: str) -> Measure:
    for measure in measures:
        if measure.name == name:
            return measure
    raise KeyError(f"there is no measure '{name}'; there are {[m.name for m in measures]}")


@dataclass(frozen=True, eq=False, repr=False)
class Finding(Displayed):
    """The answer of one instrument about one classifier on one image set."""

    instrument: str
    version: int
    params: Mapping[str, Any]
    classifier: str
    images: str
    measures: tuple[Measure, ...] = ()
    panels: tuple[Panel, ...] = ()
    verdict: Verdict = UNSAID
    caveats: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    why: str = ""
    """Why the instrument does not apply here; empty where it does."""

    def __repr__(self) -> str:
        return f"<Finding {self.instrument} of {self.classifier} on {self.images}: {self.why or self.verdict.said}>"

    def __getitem__(self, name: str) -> Measure:
        return _named(self.measures, name)

    @property
    def sentence(self) -> str:
        return self.verdict.sentence

    def get(self, name: str) -> Measure | None:
        """The measure of this name, or None where there is none."""
        return next((measure for measure in self.measures if measure.name == name), None)

    def with_panels(self, panels: tuple[Panel, ...]) -> "Finding":
        return replace(self, panels=self.panels + panels)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without what is left at its default. Raises ValueError for pixels that are in no file."""
        for panel in self.panels:
            for figure in panel.figures:
                if any(one.pixels is not None for one in (figure, *figure.insets)):
                    raise ValueError(f"panel {panel.name}: pixels of '{figure.caption}' were not written to a file")
        return {"schema": SCHEMA, **_sparse(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Finding":
        """The finding that `to_json` wrote. Raises ValueError for anything else."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"finding of schema {data.get('schema')}; this cuescope reads schema {SCHEMA}")
        found = msgspec.convert({key: value for key, value in data.items() if key != "schema"}, cls)
        for panel in found.panels:
            _check_drawable(panel)
        return found


_OF_EACH = {"dots": ("rows", {"label", "value"}), "lines": ("series", {"x", "y"}), "points": ("points", {"x", "y"})}
_NEEDED = {kind: {name} for kind, (name, _) in _OF_EACH.items()}
_NEEDED |= {"bars": {"edges", "values"}, "table": {"columns", "rows"}}


def _check_drawable(panel: Panel) -> None:
    """Raise ValueError where the data lacks what a panel of its kind cannot be drawn without."""
    if lacking := sorted(_NEEDED.get(panel.kind, set()) - panel.data.keys()):
        raise ValueError(f"the panel {panel.name} has no {' and no '.join(lacking)}")
    if panel.kind in _OF_EACH:
        name, keys = _OF_EACH[panel.kind]
        if not all(isinstance(part, Mapping) and keys <= part.keys() for part in panel.data[name]):
            raise ValueError(f"the panel {panel.name} has {name} without {' or '.join(sorted(keys))}")


def _sparse(record: Any) -> Any:
    """A record of records as plain values, without the fields that are left at their default."""
    if dataclasses.is_dataclass(record):
        given = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
        required = {f.name for f in dataclasses.fields(record) if f.default is f.default_factory is dataclasses.MISSING}
        # A missing value is null with its reason beside it; a count or a chance of 0 is a number.
        empty = {k for k, v in given.items() if v is None or v is False or v in ("", ())}
        return {k: _sparse(v) for k, v in given.items() if k in required or k not in empty}
    if isinstance(record, tuple | list):
        return [_sparse(item) for item in record]
    return {k: _sparse(v) for k, v in record.items()} if isinstance(record, Mapping) else record
