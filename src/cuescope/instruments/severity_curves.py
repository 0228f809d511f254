"""Accuracy by the level of a distortion: from rows to curves, their areas, intervals and plots. Pure arithmetic."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import stats
from cuescope.core.findings import Measure, Panel, Published
from cuescope.core.published import distortions as others
from cuescope.data.ops.distortions import DISTORTIONS, level_text

Array = NDArray[np.float64]


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
        low, high = zip(*(stats.wilson(k, n) for k, n in zip(self.k, self.n, strict=True)), strict=True)
        series = {"name": "", "x": places, "y": self.shares, "low": list(low), "high": list(high)}
        data: dict[str, Any] = {"x": axis_of(self.name), "y": "share that is right", "chance": chance}
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
    """The mean of the curves' areas, beside that of others who were measured at all their levels.

    The interval resamples images, each with all its versions; of one image there is none.
    """
    right, seen, weights = _stacked(curves)
    value = float(np.mean([curve.area for curve in curves]))
    who = [w for w in curves[0].known if all(w in curve.known for curve in curves)]
    if (seen == 1).all():
        interval = stats.mean_of_shares(np.clip(right @ weights, 0, 1)) if len(right) > 1 else None
    else:
        interval = _resampled(right, seen, weights)
    reached = {w: float(np.mean([np.mean(curve.of(w)) for curve in curves])) for w in who}
    published = tuple(Published(w, share, others.SOURCE) for w, share in reached.items())
    return Measure(name, value, "share", len(right), interval, better="higher", published=published, **more)


def areas(curves: Sequence[Curve], chance: float | None, why: str) -> tuple[Measure, ...]:
    """The area over all curves, which is the headline, and that of each; without curves the reason is `why`."""
    if not curves:
        return (Measure("area", None, "share", title="area under the curves", why=why, headline=True),)
    title = f"area under the curves, mean of {len(curves)} distortions" if len(curves) > 1 else "area under the curve"
    each = (area(f"area_{c.key}", [c], title=f"area under the curve: {c.title}", chance=chance) for c in curves)
    return area("area", curves, title=title, chance=chance, headline=True), *each


def panels(curves: Sequence[Curve], chance: float | None) -> Iterator[Panel]:
    """Each curve, and a table of every level."""
    yield from (curve.panel(chance) for curve in curves)
    known, cells = any(curve.known for curve in curves), []
    for curve in curves:
        people = curve.of(others.PEOPLE) if curve.known else [None] * len(curve.levels)
        for level, k, n, reference in zip(curve.levels, curve.k, curve.n, people, strict=True):
            span = "–".join(f"{end:.3f}" for end in stats.wilson(k, n))
            cell = [curve.title, level_text(level), round(k / n, 3), span, n]
            cells.append([*cell, reference] if known else cell)
    if curves:
        columns = ["distortion", "level", "share", "95 % interval", "n", *([others.PEOPLE] if known else [])]
        caption, data = "The share that is right at each level.", {"columns": columns, "rows": cells}
        yield Panel("levels", "table", "Every level", caption, data)


def difference(name: str, first: Sequence[Curve], second: Sequence[Curve], title: str) -> Measure:
    """The mean area of the first curves less that of the second, of the same images and levels, paired by image."""
    right, seen, weights = _stacked(first)
    gap = right - _stacked(second)[0]
    value = float((gap.sum(0) / seen.sum(0)) @ weights)
    return Measure(name, value, "difference", len(gap), _resampled(gap, seen, weights), title=title)


def _stacked(curves: Sequence[Curve]) -> tuple[Array, Array, Array]:
    """Right answers and images seen, (images, all levels), and the weight of each level in the mean area."""
    right, seen = (np.hstack([getattr(curve, name) for curve in curves]) for name in ("right", "seen"))
    shown = seen.any(1)
    weights = np.concatenate([np.full(len(c.levels), 1 / len(c.levels) / len(curves)) for c in curves])
    return right[shown], seen[shown], weights


def _resampled(summed: Array, seen: Array, weights: Array) -> tuple[float, float] | None:
    if (seen == 1).all():
        return stats.bootstrap_mean(summed @ weights) if len(summed) > 1 else None

    def areas(means: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):  # a resample without any image of a level has no area
            return (means[:, : len(weights)] / means[:, len(weights) :]) @ weights

    interval = stats.bootstrap_of_means(np.hstack([summed, seen]), areas)
    return interval if interval is not None and np.isfinite(interval).all() else None
