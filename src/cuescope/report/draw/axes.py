"""Scales, ticks and the small interval graphic that stands beside every large number."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuescope.report.draw import words
from cuescope.report.draw.color import accent, glyph
from cuescope.report.draw.scene import FONT, WIDTH, Area, Item, Line, Mark, Scene, box


@dataclass(frozen=True)
class Part:
    """One classifier's share of a plot: its number (color and glyph; None: two at once), its name, the panel's data."""

    index: int | None
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Scale:
    """Numbers from low to high, laid on units from start to end."""

    low: float
    high: float
    start: float
    end: float
    unit: str = ""

    def __call__(self, number: float) -> float:
        """The place of a number; what lies outside sits on the edge."""
        share = (number - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        """About `count` round numbers within the scale."""
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def tick_text(self, tick: float) -> str:
        if self.unit in ("share", "difference"):
            sign = "+" if self.unit == "difference" and tick > 0 else ""
            text = f"{sign}{tick * 100:.4g}" + ("%" if self.unit == "share" else "")
        else:
            text = f"{tick:,.0f}" if abs(tick) >= 1000 else f"{tick:.4g}"
        return text.replace("-", words.MINUS)


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)


def domain(numbers: Iterable[float | None], unit: str = "") -> tuple[float, float]:
    """The ends of a scale that shows all these numbers and does not exaggerate.

    Shares start at 0 and go to 1 unless all are small; differences are symmetric about 0.

    >>> domain([0.3, 0.96], "share"), domain([0.02, 0.031], "share"), domain([-0.24], "difference")
    ((0.0, 1.0), (0.0, 0.04), (-0.3, 0.3))
    """
    known = [float(x) for x in numbers if x is not None and math.isfinite(x)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if unit == "difference":
        reach = _ceil(max(abs(low), abs(high), 0.01))
        return -reach, reach
    if unit in ("share", "probability") and low >= 0:
        return 0.0, 1.0 if high > 0.4 else _ceil(max(high, 0.001))
    if unit in ("correlation", "kappa"):
        return (-1.0 if low < 0 else 0.0), max(1.0, high)
    return (-_ceil(-low) if low < 0 else 0.0), (_ceil(high) if high > 0 else 0.0 if low < 0 else 1.0)


def _ceil(number: float) -> float:
    number = max(number, 1e-300)  # a fourth of less may be no number at all
    step = _round_step(number / 4)
    return float(f"{math.ceil(number / step - 1e-9) * step:.12g}")


TRACK = (10.0, 350.0)
"""Where the scale of an interval graphic starts and ends, in a scene 360 wide."""


def track(
    ends: tuple[float, float],
    unit: str,
    number: float | None,
    interval: Sequence[float] | None = None,
    *,
    index: int | None = None,
    published: bool = False,
    chance: float | None = None,
    name: str = "",
) -> Scene:
    """One number on a scale, with its 95 % interval and the level of chance.

    `index` is the classifier's; None draws a diamond in ink, hollow where the number is a published one.
    """
    scale = Scale(*ends, *TRACK, unit)
    y = 11.0
    items: list[Item] = [Line([(scale.start, y), (scale.end, y)], "rule", 1)]
    items += [Line([(scale(t), y - 3), (scale(t), y + 3)], "rule", 1) for t in scale.ticks()]
    if ends[0] < 0 < ends[1]:
        items.append(Line([(scale(0), y - 9), (scale(0), y + 9)], "muted", 1))
    if chance is not None:
        title = f"chance: {words.value(chance, unit)}"
        items.append(Line([(scale(chance), y - 9), (scale(chance), y + 9)], "muted", 1.2, "2 2", title))
    tip = f"{name}: {words.value(number, unit)}" if name else words.value(number, unit)
    role, shape = accent(index), glyph(index)
    if interval is not None and number is not None:
        tip += f", 95% interval {words.interval(interval, unit)}"
        low, high = scale(interval[0]), scale(interval[1])
        items.append(Area(box(low, y - 3.5, max(high, low + 1), y + 3.5), role, 0.3))
    if number is not None:
        items.append(Mark((scale(number), y), shape, role, 4.2 if published else 5.2, published))
    return Scene(22, items, tip, kind="track")


def ruler(ends: tuple[float, float], unit: str) -> list[tuple[float, str]]:
    """The numbers under a column of tracks, each with its place in percent of the track's width."""
    scale = Scale(*ends, *TRACK, unit)
    return [(place(ends, tick), scale.tick_text(tick)) for tick in scale.ticks()]


def place(ends: tuple[float, float], number: float) -> float:
    """Where a number stands on a track, in percent of its width."""
    return round(Scale(*ends, *TRACK)(number) / WIDTH * 100, 2)


def width_of(text: str, size: float = FONT) -> float:
    """A close upper guess of a text's width, for there is no font to measure with."""
    return size * sum(0.34 if c in "iljtfI.,:;|' ()" else 0.86 if c in "mwMW@%" else 0.6 for c in text)


def shortened(text: str, room: float, size: float = FONT, measure: Callable[[str, float], float] = width_of) -> str:
    """The text, cut with an ellipsis where it is wider than the room."""
    whole = text
    while text and measure(text if text == whole else text + "…", size) > room:
        text = text[:-1]
    return text if text == whole else text.rstrip() + "…"
