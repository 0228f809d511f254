"""Measures with their intervals: pure functions of numbers. All intervals are at 95 %.

One policy for all of them. What is independent of each other counts, which is an image, or whatever `clusters` say:
under five such units there is no interval, and `why` says so. A share of hits has Wilson's interval; a mean of shares
has Wilson's of as many trials as would vary as much. Other means have Hall's, which is Student's corrected for
skewness. How much a number varies is found by leaving out one unit at a time (the jackknife), so that ratios, several
pairs of an image, and images that share objects and textures come the same way. Where nearly all values are the same,
their spread says little of how far the next would differ, and a value at either end is reckoned with. docs/intervals.md
says how often these intervals hold the truth, by simulation.

Those that take a name give a Measure, whose further fields are in `more`; without observations it has no value, and the
reason `why`. The others give intervals.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core.findings import Measure, Unit

Z95 = 1.959963984540054
RESAMPLES = 2000
BLOCK = 4_000_000
"""Numbers that resampling holds at once."""
UNITS = 5
"""Independent units that an interval needs."""
SAME = 1e-9
"""Values that differ by less than this share of their size differ by rounding alone."""
RARE = (0.0513, 0.3554, 0.8177)
"""Expected numbers of which 1, 2 and 3 or more are seen in one case of twenty: Poisson's law."""

Numbers = Sequence[float] | NDArray[Any] | pl.Series
Interval = tuple[float, float]

Clusters = Sequence[Sequence[Any] | NDArray[Any] | pl.Series]
"""Up to two columns of labels, (n,) each: values with the same label share something (an object, a texture) and are
not independent. Two columns cross: values share something along either."""

NOTHING = "nothing was seen"


def share(
    name: str,
    hits: Numbers | int,
    n: int | None = None,
    *,
    clusters: Clusters = (),
    units: str = "images",
    why: str = NOTHING,
    **more: Any,
) -> Measure:
    """What share of n are hits? `hits` is their number, with `n`, or a 0 or 1 for each.

    `units` is what `why` calls what is counted where it is too few for an interval: images, objects.

    >>> share("top1", [True, False, True, True]).count
    3
    >>> share("top1", [True, False, True, True]).why
    'an interval needs at least 5 images, not 4'
    """
    values = np.empty(0)
    if n is None:
        values = np.asarray(hits, dtype=float)
        hits, n = round(float(values.sum())), len(values)
    elif len(clusters):
        raise ValueError("clusters need a 0 or 1 for each, not a number of hits")
    k = int(hits)  # type: ignore[arg-type] - a number where n is given
    if not n:
        return Measure(name, None, "share", why=why, **more)
    if len(clusters):
        interval, lacking = _of_shares(_left_out(_mean_of, _counted(values), clusters), units)
    else:
        interval, lacking = (wilson(k, n), "") if n >= UNITS else (None, _too_few(n, units))
    return Measure(name, k / n, "share", n, interval, lacking, count=k, **more)


def mean(
    name: str,
    values: Numbers,
    unit: Unit = "share",
    *,
    clusters: Clusters = (),
    units: str = "images",
    why: str = NOTHING,
    **more: Any,
) -> Measure:
    """What is the mean of these values, one an image (or another unit)?

    Shares and probabilities lie in 0..1 and differences in -1..1, which is made use of. Other values that are all the
    same have no interval.

    >>> mean("mac", [0.1, 0.1], "probability").value
    0.1
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return Measure(name, None, unit, why=why, **more)
    left = _left_out(_mean_of, _counted(data), clusters)
    if unit in ("share", "probability") and data.min() >= 0 and data.max() <= 1:
        if not len(clusters) and len(data) >= UNITS and np.isin(data, (0, 1)).all():
            interval, lacking = wilson(round(float(data.sum())), len(data)), ""
        else:
            interval, lacking = _of_shares(left, units)
    elif unit == "difference" and np.abs(data).max() <= 1:
        interval, lacking = _of_differences(left, bool(np.isin(data, (-1, 0, 1)).all()), units)
    else:
        interval, lacking = _of_numbers(left, units)
    return Measure(name, float(data.mean()), unit, len(data), interval, lacking, **more)


def mean_share(name: str, shares: Numbers, **more: Any) -> Measure:
    """What is the mean of these shares in 0..1, one an image? As `mean` says."""
    return mean(name, shares, "share", **more)


def ratio(
    name: str,
    above: Numbers,
    below: Numbers,
    unit: Unit = "share",
    *,
    clusters: Clusters = (),
    units: str = "images",
    why: str = "",
    **more: Any,
) -> Measure:
    """What is sum(above) / sum(below), over pairs that go together? n counts pairs with below > 0.

    >>> ratio("changed", [1.0, 0.0], [1.0, 1.0]).value
    0.5
    """
    a, b = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    if not b.sum():
        return Measure(name, None, unit, why=why or NOTHING, **more)
    left = _left_out(_mean_of, np.stack([a, b], 1), clusters)
    of_ratio = _of_shares if ((a >= 0) & (a <= b)).all() else _of_numbers
    interval, lacking = of_ratio(left, units)
    return Measure(name, float(a.sum() / b.sum()), unit, int((b > 0).sum()), interval, lacking, **more)


def difference(
    name: str,
    a: Numbers,
    b: Numbers,
    *,
    clusters: Clusters = (),
    units: str = "images",
    why: str = NOTHING,
    **more: Any,
) -> Measure:
    """By how much is the mean of a above that of b, over the same images? As `paired_difference` says."""
    if not len(a):
        return Measure(name, None, "difference", why=why, **more)
    x, y = np.asarray(a, float), np.asarray(b, float)
    value, (interval, lacking) = _paired(x, y, clusters, units)
    return Measure(name, value, "difference", len(x), interval, lacking, **more)


def correlation(name: str, a: Numbers, b: Numbers, **more: Any) -> Measure:
    """How do a and b go along? Pearson's correlation, as `pearson` says, or why there is none."""
    value, interval, why = pearson(a, b)
    return Measure(name, value, "correlation", len(a) if value is not None else 0, interval, why=why, **more)


def wilson(k: int, n: int) -> Interval:
    """Interval of a share k of n. Raises ValueError for n = 0.

    Wilson's score interval (Wilson 1927), and Poisson's limit where so few are hits, or none are so few, that Wilson's
    would leave it out (Brown, Cai & DasGupta 2001, section 4.1.1).

    >>> low, high = wilson(297, 500)
    >>> round(low, 3), round(high, 3)
    (0.55, 0.636)
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"no share of {k} in {n}")
    low, high = _score(k / n, n, Z95)
    few = RARE[: 3 if n > 50 else 2]
    if 0 < k <= len(few):
        low = min(low, few[k - 1] / n)
    if 0 < n - k <= len(few):
        high = max(high, 1 - few[n - k - 1] / n)
    return low, high


def _score(share: float, trials: float, quantile: float) -> Interval:
    """The shares p of which this one is less than so many standard deviations away: Wilson's score interval."""
    z2 = quantile**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = quantile * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half) if share > 0 else 0.0, min(1.0, middle + half) if share < 1 else 1.0


@lru_cache(maxsize=1024)
def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t.

    >>> round(student(4), 4), round(student(10**6), 4)
    (2.7764, 1.96)
    """
    if degrees > 10_000:
        return Z95
    # With t = tan(angle) sqrt(degrees) the density is a power of the cosine.
    angle = np.linspace(0, np.pi / 2, 20_001)
    below = np.append(0, np.cumsum(np.cos((angle[1:] + angle[:-1]) / 2) ** (degrees - 1)))
    return float(np.tan(np.interp(0.95 * below[-1], below, angle)) * math.sqrt(degrees))


@dataclass(frozen=True)
class _Left:
    """What a number varies by, from its values with one unit left out at a time."""

    value: float
    variance: float
    units: int
    skewness: float = 0.0
    """Of a single unit's part in the value."""
    others: int = 0
    """Units whose part in the value is another than that of most."""


def _left_out(
    statistic: Callable[[NDArray[Any]], NDArray[Any]], columns: NDArray[Any], clusters: Clusters = ()
) -> _Left:
    """The jackknife of what `statistic` makes of column sums (..., k), over the rows (n, k) or their clusters.

    With two columns of clusters the variances over both are added, less that over their pairs, which both hold
    (Cameron, Gelbach & Miller 2011); the fewer clusters are the units. Rows of zeros count for nothing.
    """
    known = columns.any(1)
    columns, labels = columns[known], [np.unique(np.asarray(c)[known], return_inverse=True)[1] for c in clusters]
    if len(labels) < 2:
        return _one_way(statistic, columns, *labels)
    a, b = (_one_way(statistic, columns, place) for place in labels)
    pairs = np.unique(labels[0] * (labels[1].max(initial=0) + 1) + labels[1], return_inverse=True)[1]
    both = _one_way(statistic, columns, pairs)
    variance = max(a.variance + b.variance - both.variance, a.variance, b.variance, both.variance)
    return _Left(a.value, variance, min(a.units, b.units), 0.0, min(a.others, b.others))


def _one_way(
    statistic: Callable[[NDArray[Any]], NDArray[Any]], columns: NDArray[Any], place: NDArray[Any] | None = None
) -> _Left:
    sums = columns
    if place is not None and len(columns):
        sums = np.stack([np.bincount(place, column) for column in columns.T], 1)
    total, n = sums.sum(0), len(sums)
    value = float(statistic(total))
    if n < 2:
        return _Left(value, math.nan, n)
    without = statistic(total - sums)
    parts = without.mean() - without
    size = max(float(np.abs(parts).max()), SAME * abs(value) / n)
    parts[np.abs(parts) < SAME * abs(value) / n] = 0.0
    spread = math.sqrt(float((parts**2).mean()))
    skewness = float((parts**3).mean()) / spread**3 if spread > 0 else 0.0
    _, times = np.unique(np.round(parts / size, 9) if size else parts, return_counts=True)
    return _Left(value, (n - 1) * spread**2, n, skewness, n - int(times.max()))


def _counted(values: NDArray[Any]) -> NDArray[Any]:
    return np.stack([values, np.ones(len(values))], 1)


def _mean_of(sums: NDArray[Any]) -> NDArray[Any]:
    """Sum of values over sum of weights: columns 0 and 1."""
    below = sums[..., 1]
    return np.divide(sums[..., 0], below, out=np.full(below.shape, np.nan), where=below > 0)


Found = tuple[Interval | None, str]
"""An interval, or None and why there is none."""


def _too_few(n: int, units: str) -> str:
    return f"an interval needs at least {UNITS} {units}, not {n}"


def _of_shares(left: _Left, units: str) -> Found:
    """Of a mean in 0..1: Wilson's interval of as many trials as would vary as much."""
    if lacking := _lacking(left, units):
        return None, lacking
    m, most = left.value, left.value * (1 - left.value) / left.units
    if not most > 0:
        return _score(m, left.units, student(left.units - 1)), ""
    seldom = (m**2 + (1 - m) ** 2) * _unseen(left) / left.units**2
    variance = max(left.variance, min(left.variance + seldom, most))
    return _score(m, m * (1 - m) / variance, student(left.units - 1)), ""


def _of_differences(left: _Left, ends: bool, units: str) -> Found:
    """Of a mean in -1..1; `ends` says that each value is -1, 0 or 1: then Agresti & Min's (2005), by Student's t."""
    if lacking := _lacking(left, units):
        return None, lacking
    n = left.units
    if ends:  # As if one more differed either way, by a half.
        middle, spread = left.value * n / (n + 2), math.sqrt(n**2 * left.variance + 1) / (n + 2)
        half = student(n - 1) * spread
        low, high = middle - half, middle + half
    else:
        low, high = _hall(replace(left, variance=left.variance + 2 * _unseen(left) / n**2))
    return (max(-1.0, low), min(1.0, high)), ""


def _of_numbers(left: _Left, units: str) -> Found:
    """Of a mean, or ratio, of numbers without limits."""
    if lacking := _lacking(left, units):
        return None, lacking
    if not left.others:
        return None, f"it is the same for all {left.units} {units}, so nothing is known of how far others differ"
    return _hall(left), ""


def _lacking(left: _Left, units: str) -> str:
    if left.units < UNITS:
        return _too_few(left.units, units)
    return "" if math.isfinite(left.variance) else f"without one of the {units} there is no value"


def _unseen(left: _Left) -> float:
    """As how many values at either end those count that were not seen: one where all units have the same value."""
    return 1 / (1 + left.others) ** 2


def _hall(left: _Left) -> Interval:
    """Student's interval corrected for skewness (Hall 1992, On the removal of skewness by transformation)."""
    bend, spread = left.skewness / math.sqrt(left.units), math.sqrt(left.variance)
    ends = np.array([1.0, -1.0]) * student(left.units - 1)
    if abs(bend) > 1e-6:
        ends = 3 / bend * (np.cbrt(1 + bend * (ends - bend / 6)) - 1)
    low, high = left.value - spread * ends
    return float(low), float(high)


def bootstrap_mean(values: Numbers, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron & Tibshirani 1993, chapter 13); ValueError for one value."""
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        raise ValueError(f"an interval needs at least two values, not {len(data)}")
    return _percentiles(_resampled(data[:, None], seed)[:, 0] / len(data))


def bootstrap_of_means(
    values: NDArray[Any], of: Callable[[NDArray[Any]], NDArray[Any]], seed: int = 0
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of what `of` makes of the column means of `values` (n, k), rows resampled.

    `of` takes the means of all resamples (r, k) and gives (r,) numbers. None for fewer than two rows.

    >>> bootstrap_of_means(np.array([[0.0, 1.0], [0.0, 1.0]]), lambda means: (means > 0.5).mean(1))
    (0.5, 0.5)
    """
    if len(values) < 2:
        return None
    return _percentiles(of(_resampled(np.asarray(values, float), seed) / len(values)))


def mean_of_shares(values: Numbers) -> Interval:
    """The interval of `mean_share`, for as few values as there are. Raises ValueError for no value."""
    data = np.asarray(values, dtype=float)
    if np.isin(data, (0, 1)).all():
        return wilson(int(data.sum()), len(data))
    found, _ = _of_shares(_left_out(_mean_of, _counted(data)), "images")
    return found or (0.0, 1.0)


def independent_difference(
    a: float, a_interval: Interval | None, b: float, b_interval: Interval | None
) -> Interval | None:
    """Interval of a - b from those of both, of different images (Newcombe 1998, method 10; Zou & Donner 2008).

    None where either has none.
    """
    if a_interval is None or b_interval is None:
        return None
    low = math.hypot(a - a_interval[0], b_interval[1] - b)
    high = math.hypot(a_interval[1] - a, b - b_interval[0])
    return a - b - low, a - b + high


def bootstrap_ratio(above: Numbers, below: Numbers, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap interval of sum(above) / sum(below), the pairs resampled together.

    None where a resample can have a denominator of 0, so that no interval exists.
    """
    if len(above) < 2:
        return None
    sums = _resampled(np.stack([np.asarray(above, float), np.asarray(below, float)], 1), seed)
    return None if (sums[:, 1] == 0).any() else _percentiles(sums[:, 0] / sums[:, 1])


def paired_difference(a: Numbers, b: Numbers, *, clusters: Clusters = ()) -> tuple[float, Interval | None, int]:
    """Mean of a less mean of b over the same images, its interval, and the number of images.

    NaN marks an image that does not count for one of them (a decision for neither cue, say): each mean is over
    its own images, and images are left out as pairs, so what the two have in common cancels. Raises ValueError for
    other images, and where none counts for one side.
    """
    value, (interval, _) = _paired(np.asarray(a, float), np.asarray(b, float), clusters, "images")
    return value, interval, len(a)


def _paired(x: NDArray[Any], y: NDArray[Any], clusters: Clusters, units: str) -> tuple[float, Found]:
    if x.shape != y.shape:
        raise ValueError(f"paired values must be of the same images: {len(x)} and {len(y)}")
    columns = np.stack([np.nan_to_num(x), ~np.isnan(x), np.nan_to_num(y), ~np.isnan(y)], 1).astype(float)
    if not columns[:, 1].any() or not columns[:, 3].any():
        raise ValueError("one side has no image that counts")
    left, given = _left_out(_less, columns, clusters), np.concatenate([x, y])
    given = given[~np.isnan(given)]
    if given.min() >= 0 and given.max() <= 1:
        return left.value, _of_differences(left, bool(np.isin(given, (0, 1)).all()), units)
    return left.value, _of_numbers(left, units)


def _less(sums: NDArray[Any]) -> NDArray[Any]:
    """The mean of columns 0 and 1 less that of columns 2 and 3."""
    return _mean_of(sums[..., :2]) - _mean_of(sums[..., 2:])


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each of n things is drawn in each resample: with replacement, within its own stratum.

    Iterating gives blocks (some resamples, n) of bounded memory, the same ones each time, whatever their size.

    >>> next(iter(Draws([0, 0, 1], resamples=2)))[:, 2].tolist()
    [1.0, 1.0]
    """

    strata: Sequence[int] | NDArray[Any]
    """(n,) what each thing belongs to."""
    seed: int = 0
    resamples: int = RESAMPLES

    def __iter__(self) -> Iterator[NDArray[Any]]:
        rows = max(1, BLOCK // max(1, len(self.strata)))
        yield from [self._whole] if rows >= self.resamples else self._blocks(rows)

    @cached_property
    def _whole(self) -> NDArray[Any]:
        return next(self._blocks(self.resamples))

    def _blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        strata = np.asarray(self.strata)
        sizes = [min(rows, self.resamples - start) for start in range(0, self.resamples, rows)]
        random, streams = np.random.default_rng(self.seed), []
        for stratum in np.unique(strata):
            if streams:  # A stratum's random numbers begin where those of the one before it end.
                for size in sizes:
                    _drawn(random, streams[-1][0], size)
            streams.append((np.flatnonzero(strata == stratum), copy.deepcopy(random)))
        for size in sizes:
            block = np.zeros((size, len(strata)))
            for members, stream in streams:
                block[:, members] = _drawn(stream, members, size)
            yield block


def _drawn(random: np.random.Generator, members: NDArray[Any], resamples: int) -> NDArray[Any]:
    return random.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)


def pair_mean(
    groups: Sequence[tuple[NDArray[Any], NDArray[Any]]], drawn: Draws
) -> tuple[float | None, Interval | None, int]:
    """Mean over groups of the mean over all pairs of a group, its interval, and the number of pairs.

    A group is its members' numbers (n,) and the symmetric values of their pairs (n, n), NaN for none. Groups count
    alike, however many pairs they have. Things are left out, one at a time, not pairs, which are not independent;
    those of one stratum of `drawn` vary about their own mean. A group without a pair is left out.

    >>> pair_mean([(np.arange(3), np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]]))], Draws([0, 0, 0]))
    (2.0, None, 3)
    """
    known = [(m, np.isfinite(values) & ~np.eye(len(m), dtype=bool), values) for m, values in groups]
    filled = [(m, where, np.where(where, values, 0.0)) for m, where, values in known if where.any()]
    if not filled:
        return None, None, 0
    strata = np.asarray(drawn.strata)
    total, count, paired = np.zeros(len(strata)), np.zeros(len(strata)), np.zeros(len(strata), bool)
    means = [float(values.sum() / where.sum()) for _, where, values in filled]
    for mean, (members, where, values) in zip(means, filled, strict=True):
        pairs = where.sum() - 2 * where.sum(1)
        without = np.divide(values.sum() - 2 * values.sum(1), pairs, out=np.zeros(len(members)), where=pairs > 0)
        total[members] += without - mean
        count[members] += (pairs > 0) - 1
        paired[members] |= where.any(1)
    value, n = float(np.mean(means)), sum(int(where.sum()) // 2 for _, where, _ in filled)
    below, variance, free = len(filled) + count, 0.0, 0
    if paired.sum() < UNITS or (below[paired] <= 0).any():
        return value, None, n
    without = (sum(means) + total)[paired] / below[paired]
    of, sizes = np.unique(strata[paired], return_inverse=True, return_counts=True)[1:]
    parts = (np.bincount(of, without) / sizes)[of] - without
    spread, free = math.sqrt(float((parts**2).mean())), len(parts) - len(sizes)
    if not free or spread <= SAME * abs(value):
        return value, None, n
    variance, skewness = float((parts**2 * (1 - 1 / sizes[of])).sum()), float((parts**3).mean()) / spread**3
    return value, _hall(_Left(value, variance, free + 1, skewness)), n


def pearson(a: Numbers, b: Numbers) -> tuple[float | None, Interval | None, str]:
    """Correlation of a and b, its interval, and why either of them is None.

    The interval is Student's of Fisher's z, whose variance is found by leaving out one pair at a time: it holds for
    heavy tails and for 0 and 1 too. There is no correlation of fewer than three pairs, nor where one side is always the
    same but for rounding.

    >>> value, interval, why = pearson([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0])
    >>> round(value, 6), why
    (1.0, 'an interval needs at least 5 images, not 4')
    """
    pairs = np.stack([np.asarray(a, float), np.asarray(b, float)], 1)
    n = len(pairs)
    if n < 3:
        return None, None, f"a correlation needs at least three pairs, not {n}"
    spread = pairs.std(0)
    if (spread <= SAME * np.abs(pairs).max(0)).any():
        return None, None, "one side is always the same, so nothing can go along with it"
    x, y = ((pairs - pairs.mean(0)) / spread).T
    value = float(np.clip((x * y).mean(), -1, 1))
    if n < UNITS:
        return value, None, _too_few(n, "images")
    products = np.stack([x, y, x * x, y * y, x * y], 1)
    sums = (products.sum(0) - products) / (n - 1)
    covariance, variances = sums[:, 4] - sums[:, 0] * sums[:, 1], sums[:, 2:4] - sums[:, :2] ** 2
    if (variances <= SAME).any():
        return value, None, "without one of the images one side is always the same"
    near = 1 - SAME
    z = np.arctanh(np.clip(covariance / np.sqrt(variances.prod(1)), -near, near))
    half = student(n - 1) * math.sqrt((n - 1) * float(z.var()))
    low, high = np.tanh(np.arctanh(np.clip(value, -near, near)) + half * np.array([-1, 1]))
    return value, (float(low), float(high)), ""


def concentration(falls: NDArray[Any]) -> float | None:
    """How local is a dependence: the share of all falls that the tenth of places with the largest falls hold.

    0.1 where every place matters alike, 1 where a tenth of the places holds all; None where nothing falls.

    >>> concentration(np.array([0.0] * 9 + [0.5])), concentration(np.full(10, 0.2)), concentration(np.zeros(10))
    (1.0, 0.1, None)
    """
    lost = np.sort(np.clip(falls, 0, None))[::-1]
    total = lost.sum()
    if total <= 0:
        return None
    whole, part = divmod(len(lost), 10)
    top = lost[:whole].sum() + (lost[whole] * part / 10 if part else 0.0)
    return float(round(top / total, 12))


def _resampled(data: NDArray[Any], seed: int) -> NDArray[Any]:
    """(RESAMPLES, k): column sums of as many rows as `data` (n, k) has, drawn with replacement, in bounded memory."""
    generator, n = np.random.default_rng(seed), len(data)
    block, sums = max(1, BLOCK // n), []
    for start in range(0, RESAMPLES, block):
        index = generator.integers(0, n, (min(block, RESAMPLES - start), n))
        sums.append(np.stack([column[index].sum(1) for column in data.T], 1))
    return np.concatenate(sums)


def interval_of(values: NDArray[Any]) -> tuple[float, float] | None:
    """Percentile interval of what each resample gave. None where it gave nothing (NaN) in more than one of twenty.

    >>> interval_of(np.array([0.5, 0.5, np.nan])) is None
    True
    """
    known = values[np.isfinite(values)]
    return _percentiles(known) if len(known) and len(known) >= 0.95 * len(values) else None


def _percentiles(values: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
