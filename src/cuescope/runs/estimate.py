"""What an audit will cost in seconds, and how far it is: arithmetic on what a trial has timed."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cuescope.core.progress import Progress, Whole, duration, quiet

Key = tuple[str, str]
"""A classifier and an instrument, or a classifier and an image set, by name."""
TRUSTED = 0.1
"""The share of the estimate after which what came counts as much as what was estimated."""
SHORT_S = 10.0
"""An audit this short says only how long the whole takes."""
LISTED = 5
"""Instruments whose seconds are said; the others are said together."""


@dataclass(frozen=True)
class Cost:
    """Seconds that one instrument takes on one classifier, the decoding and the clean forward pass aside."""

    start: float = 0.0
    each: float = 0.0
    """For each image that is observed."""
    conclude: float = 0.0
    conclude_each: float = 0.0
    """More, for each image whose rows are concluded from."""
    draw: float = 0.0
    """For the images that the finding shows."""

    def end(self, images: int) -> float:
        """What is paid after the last of so many images, the drawing aside."""
        return self.conclude + self.conclude_each * images


class Work(NamedTuple):
    """What is left of one task, with what it costs."""

    key: Key
    cost: Cost
    wanted: int
    """Images in all."""
    left: int
    """Images not observed yet."""

    @property
    def seconds(self) -> float:
        return self.cost.start + self.cost.each * self.left + self.cost.end(self.wanted) + self.cost.draw


@dataclass(frozen=True)
class Estimate:
    """What a trial has timed."""

    costs: Mapping[Key, Cost] = field(default_factory=dict)
    """By classifier and instrument."""
    clean: Mapping[Key, float] = field(default_factory=dict)
    """Seconds an image of the clean forward pass, by classifier and image set."""
    decode: Mapping[str, float] = field(default_factory=dict)
    """Seconds an image of reading it, by image set."""
    finish: float = 0.0
    """Seconds of comparisons and the report."""
    took: float = 0.0
    """Seconds of the trial itself."""

    def cost(self, classifier: str, instrument: str) -> Cost:
        return self.costs.get((classifier, instrument), Cost())


@dataclass(frozen=True)
class Forecast:
    """How long what is left of an audit takes: seconds by instrument, and those shared by all."""

    instruments: Mapping[str, float] = field(default_factory=dict)
    shared: float = 0.0
    """Reading and clean forward passes."""
    finish: float = 0.0
    """Comparisons and the report."""

    @classmethod
    def of(cls, works: Iterable[Work], shared: float, finish: float) -> "Forecast":
        seconds: Counter[str] = Counter()
        for work in works:
            seconds[work.key[1]] += work.seconds  # type: ignore[assignment]  # of floats
        return cls(dict(seconds.most_common()), shared, finish)

    @property
    def total(self) -> float:
        return sum(self.instruments.values()) + self.shared + self.finish

    def lines(self, more: float = 0.0) -> list[str]:
        """The whole, with so many seconds `more`, then the dearest parts.

        >>> Forecast({"interaction": 90.0, "accuracy": 1.0}, 20.0).lines()
        ['will take about 111 s', '  interaction 90 s, reading and clean passes 20 s, accuracy 1.0 s']
        """
        said = [f"will take about {duration(self.total + more)}"]
        if self.total < SHORT_S:
            return said
        parts = {**self.instruments, "reading and clean passes": self.shared, "comparisons and the report": self.finish}
        first, *others = sorted(((s, name) for name, s in parts.items() if s >= 0.5), reverse=True)
        shown, rest = [first, *others[: LISTED - 1]], others[LISTED - 1 :]
        texts = [f"{name} {duration(seconds)}" for seconds, name in shown]
        if rest:
            texts.append(f"{len(rest)} more {duration(sum(seconds for seconds, _ in rest))}")
        return [*said, "  " + ", ".join(texts)]


class Meter:
    """Says how far an audit is, from what its steps were estimated to take and what they have taken so far."""

    def __init__(
        self,
        show: Progress = quiet,
        estimate: Estimate | None = None,
        total: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.show, self.estimate, self.total, self.clock = show, estimate or Estimate(), total, clock
        self.finished, self.current, self.shown, self.since = 0.0, 0.0, 0.0, clock()

    def begin(self, what: str, seconds: float = 0.0, done: int = 0, total: int = 0) -> None:
        """A step begins that was estimated to take so many seconds; the one before it is done."""
        self.finished += self.current
        self.current = seconds
        if not self.total:
            self.show(done, total, what)
            return
        # More than was estimated may come.
        self.total = max(self.total, self.finished + seconds)
        elapsed, prior = self.clock() - self.since, TRUSTED * self.total
        rate = (elapsed + prior) / (self.finished + prior)
        self.shown = max(self.shown, self.finished / self.total)
        until = max(self.shown, (self.finished + seconds) / self.total)
        self.show(done, total, what, Whole(self.shown, until, seconds * rate, (self.total - self.finished) * rate))

    def end(self) -> None:
        """All is done."""
        self.finished, self.current = self.total, 0.0
        self.begin("done")

    def part(self, seconds: float) -> Progress:
        """A callback for other work that is a part of the whole and was estimated to take so many seconds."""
        last: float | None = None

        def show(done: int, total: int, what: str, whole: Whole | None = None, /) -> None:
            nonlocal last
            share = done / total if total else last or 0.0
            gained = seconds * (share - (last or 0.0))
            if last is not None:
                self.current = gained
            last = share
            self.begin(what, min(gained, seconds * (1 - share)), done, total)

        return show

    def drop(self, seconds: float) -> None:
        """So many of the estimated seconds will not come, as of an instrument that failed."""
        self.total = max(self.total - seconds, self.finished + self.current) if self.total else 0.0
