"""Accuracy by the level of a distortion: from rows to curves, their areas, intervals and plots. Pure arithmetic."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import draws, stats
from cuescope.core.findings import Measure, Panel, Published
from cuescope.core.published import distortions as others
from cuescope.data.ops.distortions import DISTORTIONS, level_text

Array = NDArray[np.float64]

MARGIN = 0.05
"""Accuracies that surely differ by less than this are alike, and so is a loss that is surely less than this none."""


class Curve:
    """Accuracy by level of one distortion, mildest first, with what others reached at the same levels.

    `right` and `seen` are (images, levels); `order` is the row of each image, the same for all curves. `scored` has
    the columns source, level and score, 1 for a right answer; `sixteen` says that it is a choice of the 16 categories.

    >>> scored = pl.DataFrame({"source": ["a", "a"], "level": [5.0, 100.0], "score": [0.0, 1.0]})
    >>> curve = Curve("contrast", scored, {"a": 0}, sixteen=True)
    >>> curve.levels, curve.shares, curve.area
    ([100.0, 5.0], [1.0, 0.0], 0.5)
    """

    def __init__(self, name: str, scored: pl.DataFrame, order: Mapping[str, int], sixteen: bool) -> None:
        self.name, self.title, self.key = name, title_of(name), name.replace("-", "_")
        self.levels = in_order(name, scored["level"].unique().to_list())
        column = {level: i for i, level in enumerate(self.levels)}
        at = [order[source] for source in scored["source"]], [column[level] for level in scored["level"]]
        self.right, self.seen = (np.zeros((len(order), len(self.levels))) for _ in range(2))
        np.add.at(self.right, at, scored["score"].to_numpy())
        np.add.at(self.seen, at, 1)
        self.k, self.n = (array.sum(0).astype(int).tolist() for array in (self.right, self.seen))
        known = others.published(name) if sixteen else {}
        self.known = known if known and all(level in known[others.PEOPLE] for level in self.levels) else {}

    @property
    def shares(self) -> list[float]:
        return [k / n for k, n in zip(self.k, self.n, strict=True)]

    @property
    def area(self) -> float:
        return float(np.mean(self.shares))

    def of(self, who: str) -> list[float]:
        """What others reached at these levels."""
        return [self.known[who][level] for level in self.levels]

    @property
    def places(self) -> tuple[list[float], list[tuple[float, str]]]:
        """Where the levels stand on the axis: published levels at equal distances, others where they are."""
        known = DISTORTIONS[self.name].levels if self.name in DISTORTIONS else ()
        if set(self.levels) <= set(known):
            return [float(known.index(level)) for level in self.levels], _ticks(known)
        if all(map(np.isfinite, self.levels)):
            return self.levels, []
        return [float(i) for i in range(len(self.levels))], _ticks(self.levels)

    def panel(self, chance: float | None) -> Panel:
        """The curve with its intervals, and people's where the levels are published ones."""
        places, ticks = self.places
        series: dict[str, Any] = {"name": "", "x": places, "y": self.shares}
        if min(self.n) >= stats.UNITS:
            spans = [stats.wilson(k, n) for k, n in zip(self.k, self.n, strict=True)]
            series |= {end: [span[i] for span in spans] for i, end in enumerate(("low", "high"))}
        data: dict[str, Any] = {"x": axis_of(self.name), "y": "accuracy", "chance": chance}
        data |= {"y_ends": [0.0, 1.0], "series": [series]}
        if ticks:
            data["ticks"] = [list(tick) for tick in ticks]
        if self.known:
            data["marks"] = [{"who": others.PEOPLE, "x": places, "y": self.of(others.PEOPLE)}]
        # Levels of one's own stand elsewhere on the axis: such a curve is not to be drawn into the same plot.
        name = self.name if ticks else f"{self.name}-by-level"
        return Panel(name, "lines", self.title.capitalize(), "Bands are 95 % intervals.", data)


def _ticks(levels: Sequence[float]) -> list[tuple[float, str]]:
    return [(float(i), level_text(level)) for i, level in enumerate(levels)]


def title_of(name: str) -> str:
    """What readers call a distortion."""
    return DISTORTIONS[name].title if name in DISTORTIONS else name


def axis_of(name: str) -> str:
    """What a level of it is."""
    return DISTORTIONS[name].axis if name in DISTORTIONS else "level"


def in_order(name: str, levels: Sequence[float]) -> list[float]:
    """Levels from the mildest: ascending, but for contrast and the high-pass filter, which take more the lower."""
    known = DISTORTIONS[name].levels if name in DISTORTIONS else ()
    return sorted(levels, reverse=len(known) > 1 and known[0] > known[-1])


def parted(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of each distortion, those known here first and in their order."""
    order = {name: i for i, name in enumerate(DISTORTIONS)}
    for name in sorted(set(rows["distortion"]), key=lambda name: (order.get(name, len(order)), name)):
        yield name, rows.filter(pl.col("distortion") == name)


def curves_of(scored: pl.DataFrame, sixteen: bool) -> list[Curve]:
    """The curve of each distortion, over the same images: `scored` has the columns of `Curve`'s and distortion."""
    order = {source: i for i, source in enumerate(sorted(set(scored["source"])))}
    return [Curve(name, table, order, sixteen) for name, table in parted(scored)]


def area(name: str, curves: Sequence[Curve], **more: Any) -> Measure:
    """The mean of the curves' areas, beside that of others who were measured at all their levels."""
    who = [w for w in curves[0].known if all(w in curve.known for curve in curves)]
    reached = {w: float(np.mean([np.mean(curve.of(w)) for curve in curves])) for w in who}
    published = tuple(Published(w, share, others.SOURCE) for w, share in reached.items())
    values = by_image(curves, area_weights)
    return bounded(stats.mean_share(name, values, better="higher", published=published, **more), 0.0)


def areas(curves: Sequence[Curve], chance: float | None, why: str) -> tuple[Measure, ...]:
    """The area over all curves, which is the headline, and that of each; without curves the reason is `why`."""
    if not curves:
        return (Measure("area", None, "share", title="area under the curves", why=why, headline=True),)
    title = f"area under the curves, mean of {len(curves)} distortions" if len(curves) > 1 else "area under the curve"
    each = (area(f"area_{c.key}", [c], title=f"area under the curve: {c.title}", chance=chance) for c in curves)
    return area("area", curves, title=title, chance=chance, headline=True), *each


def lost(curves: Sequence[Curve]) -> Measure:
    """What of its accuracy at the mildest level does it lose at the others? The mean over curves of several levels.

    Of a constant answer it is 0: nothing is better for being small here.
    """
    title, several = "accuracy lost, mildest level less the mean of the others", several_of(curves)
    if not several:
        return Measure("lost", None, "difference", title=title, why="no distortion has several levels", headline=True)
    values = by_image(several, loss_weights)
    return bounded(stats.mean("lost", values, "difference", title=title, headline=True), -1.0)


def apart(curves: Sequence[Curve]) -> tuple[Curve, Curve] | None:
    """The curves of the smallest and the largest area, where these differ by more than chance makes any two differ.

    Images are resampled, and the largest difference of any two areas, each less its own value, is what chance makes.
    """
    values = np.stack([by_image([curve], area_weights, every=True) for curve in curves], 1)
    ranked = sorted(curves, key=lambda curve: curve.area)
    if len(values) < stats.UNITS or len(curves) < 2:
        return None
    by_chance = draws.bootstrap_of_means(values - values.mean(0), lambda means: np.ptp(means, axis=1))
    differ = by_chance is not None and ranked[-1].area - ranked[0].area > by_chance[1]
    return (ranked[0], ranked[-1]) if differ else None


def panels(curves: Sequence[Curve], chance: float | None) -> Iterator[Panel]:
    """Each curve, and a table of every level."""
    yield from (curve.panel(chance) for curve in curves)
    known, cells = any(curve.known for curve in curves), []
    for curve in curves:
        people = curve.of(others.PEOPLE) if curve.known else [None] * len(curve.levels)
        for level, k, n, reference in zip(curve.levels, curve.k, curve.n, people, strict=True):
            span = stats.share("", k, n).interval
            said = "–".join(f"{end:.3f}" for end in span) if span else ""
            cell = [curve.title, level_text(level), round(k / n, 3), said, n]
            cells.append([*cell, reference] if known else cell)
    if curves:
        columns = ["distortion", "level", "share", "95 % interval", "n", *([others.PEOPLE] if known else [])]
        caption, data = "Accuracy at each level.", {"columns": columns, "rows": cells}
        yield Panel("levels", "table", "Every level", caption, data)


def several_of(curves: Sequence[Curve]) -> list[Curve]:
    """The curves of more than one level."""
    return [curve for curve in curves if len(curve.levels) > 1]


def area_weights(levels: int) -> Array:
    """What each level weighs in the area."""
    return np.full(levels, 1 / levels)


def loss_weights(levels: int) -> Array:
    """What each level weighs in the mildest one less the mean of the others."""
    return np.array([1.0, *[-1 / (levels - 1)] * (levels - 1)])


def by_image(curves: Sequence[Curve], weights: Callable[[int], Array], *, every: bool = False) -> Array:
    """What each image that was shown adds to a weighted sum of the shares at all levels, mean over the curves.

    Their mean is that sum, also where an image lacks levels: its part in a level's share is as many times larger as
    the images of that level are fewer. `every` has the images of other curves, too, which add what all do on average.
    """
    right, seen = (np.hstack([getattr(curve, name) for curve in curves]) for name in ("right", "seen"))
    shown = seen.any(1) | every
    right, seen = right[shown], seen[shown]
    weight = np.concatenate([weights(len(curve.levels)) for curve in curves]) / len(curves)
    shares = right.sum(0) / seen.sum(0)
    return np.round(shares @ weight + ((right - shares * seen) / seen.mean(0)) @ weight, 12)


def bounded(measure: Measure, least: float) -> Measure:
    """A measure whose interval ends where the scale does."""
    if measure.interval is None:
        return measure
    low, high = measure.interval
    return replace(measure, interval=(max(low, least), min(high, -least or 1.0)))


def points(measure: Measure, *, absolute: bool = False) -> str:
    """A difference in percentage points with its interval, without its sign where that is said in words.

    >>> points(Measure("lost", -0.1, "difference", 9, (-0.2, -0.05)), absolute=True)
    '10.0 (5.0 to 20.0)'
    """
    value, ends = measure.value or 0.0, measure.interval
    if absolute:
        value, ends = abs(value), ends and sorted(map(abs, ends))
    span = f" ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})" if ends else ""
    return f"{100 * value:{'' if absolute else '+'}.1f}{span}"
