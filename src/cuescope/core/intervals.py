"""How far may a number be from the truth? Intervals at 95 %, without resampling, of numbers that have no name yet.

One policy for all of them. What is independent of each other counts, which is an image, or whatever `clusters` say:
under five such units there is no interval, and `why` says so. A share of hits has Wilson's interval; a mean of shares
has Wilson's of as many trials as would vary as much. Other means have Hall's, which is Student's corrected for
skewness. How much a number varies is found by leaving out one unit at a time (the jackknife), so that ratios, several
pairs of an image, and images that share objects and textures come the same way. Where nearly all values are the same,
their spread says little of how far the next would differ, and a value at either end is reckoned with. docs/intervals.md
says how often these intervals hold the truth, by simulation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Z95 = 1.959963984540054
UNITS = 5
"""Independent units that an interval needs."""
SAME = 1e-9
"""Values that differ by less than this share of their size differ by rounding alone."""
RARE = (0.0513, 0.3554, 0.8177)
"""Expected numbers of which 1, 2 and 3 or more are seen in one case of twenty: Poisson's law."""

Numbers = Sequence[float] | NDArray[Any] | pl.Series
Interval = tuple[float, float]
Found = tuple[Interval | None, str]
"""An interval, or None and why there is none."""

Clusters = Sequence[Sequence[Any] | NDArray[Any] | pl.Series]
"""Up to two columns of labels, (n,) each: values with the same label share something (an object, a texture) and are
not independent. Two columns cross: values share something along either."""


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
    # Three from 40 on, not 51 as published: with two, a share of .02 is held in 92 of 100 samples of 50.
    few = RARE[: 3 if n >= 40 else 2]
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

    >>> round(student(4), 3), round(student(10**6), 3)
    (2.776, 1.96)
    """
    angle, below = _students(min(degrees, 10_000))
    return float(np.tan(np.interp(0.95, below, angle)) * math.sqrt(min(degrees, 10_000)))


def student_tails(t: float, degrees: int) -> float:
    """How likely Student's t is as far from 0 as this, or further.

    >>> round(student_tails(-2.7764, 4), 4)
    0.05
    """
    angle, below = _students(min(degrees, 10_000))
    return float(1 - np.interp(math.atan(abs(t) / math.sqrt(min(degrees, 10_000))), angle, below))


def sign_test(k: int, n: int) -> float:
    """How likely do n coins show heads as far from half of the times as k, or further? Exact.

    >>> round(sign_test(4, 4), 6), sign_test(0, 0)
    (0.125, 1.0)
    """
    few, of = min(k, n - k), math.lgamma(n + 1) - n * math.log(2)
    return min(1.0, 2 * sum(math.exp(of - math.lgamma(i + 1) - math.lgamma(n - i + 1)) for i in range(few + 1)))


def exact_test(k: int, n: int, others: int, of: int) -> float:
    """How likely do k of n and `others` of `of` differ so much or more, if hits are alike in both? Fisher's, exact.

    >>> round(exact_test(8, 10, 1, 6), 4), exact_test(0, 5, 0, 5)
    (0.035, 1.0)
    """
    hits = k + others
    ways = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + of + 1)))])
    x = np.arange(max(0, hits - of), min(n, hits) + 1)
    chance = -ways[x] - ways[n - x] - ways[hits - x] - ways[of - hits + x]
    chance = np.exp(chance - chance.max())
    seen = chance[k - x[0]]
    return float(min(1.0, chance[chance <= seen * (1 + 1e-7)].sum() / chance.sum()))


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for how many there are (Holm 1979).

    >>> [round(one, 3) for one in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    steps = np.maximum.accumulate([min(1.0, p[k] * (len(p) - i)) for i, k in enumerate(order)] or [0.0])
    found = dict(zip(order, steps.tolist(), strict=False))
    return [found[k] for k in range(len(p))]


@lru_cache(maxsize=64)
def _students(degrees: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Angles of t = tan(angle) sqrt(degrees), whose density is a power of the cosine, and how likely |t| is below."""
    angle = np.linspace(0, np.pi / 2, 20_001)
    below = np.append(0, np.cumsum(np.cos((angle[1:] + angle[:-1]) / 2) ** (degrees - 1)))
    return angle, below / below[-1]


@dataclass(frozen=True)
class Left:
    """What a number varies by, from its values with one unit left out at a time."""

    value: float
    variance: float
    units: int
    skewness: float = 0.0
    """Of a single unit's part in the value."""
    others: int = 0
    """Units whose part in the value is another than that of most."""


def left_out(statistic: Callable[[NDArray[Any]], NDArray[Any]], columns: NDArray[Any], clusters: Clusters = ()) -> Left:
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
    return Left(a.value, variance, min(a.units, b.units), 0.0, min(a.others, b.others))


def _one_way(
    statistic: Callable[[NDArray[Any]], NDArray[Any]], columns: NDArray[Any], place: NDArray[Any] | None = None
) -> Left:
    sums = columns
    if place is not None and len(columns):
        sums = np.stack([np.bincount(place, column) for column in columns.T], 1)
    total, n = sums.sum(0), len(sums)
    value = float(statistic(total))
    if n < 2:
        return Left(value, math.nan, n)
    without = statistic(total - sums)
    parts = without.mean() - without
    size = max(float(np.abs(parts).max()), SAME * abs(value) / n)
    parts[np.abs(parts) < SAME * abs(value) / n] = 0.0
    spread = math.sqrt(float((parts**2).mean()))
    skewness = float((parts**3).mean()) / spread**3 if spread > 0 else 0.0
    _, times = np.unique(np.round(parts / size, 9) if size else parts, return_counts=True)
    return Left(value, (n - 1) * spread**2, n, skewness, n - int(times.max()))


def once_each(values: NDArray[Any]) -> NDArray[Any]:
    return np.stack([values, np.ones(len(values))], 1)


def mean_of(sums: NDArray[Any]) -> NDArray[Any]:
    """Sum of values over sum of weights: columns 0 and 1."""
    below = sums[..., 1]
    return np.divide(sums[..., 0], below, out=np.full(below.shape, np.nan), where=below > 0)


def too_few(n: int, units: str) -> str:
    return f"an interval needs at least {UNITS} {units}, not {n}"


def of_shares(left: Left, units: str) -> Found:
    """Of a mean in 0..1: Wilson's interval of as many trials as would vary as much."""
    if lacking := _lacking(left, units):
        return None, lacking
    m, most = left.value, left.value * (1 - left.value) / left.units
    if not most > 0:
        return _score(m, left.units, student(left.units - 1)), ""
    seldom = (m**2 + (1 - m) ** 2) * _unseen(left) / left.units**2
    variance = max(left.variance, min(left.variance + seldom, most))
    return _score(m, m * (1 - m) / variance, student(left.units - 1)), ""


def over_classes(k: NDArray[Any], n: NDArray[Any]) -> Found:
    """Of the mean over classes of their shares k of n, images varying within their class.

    A class of few images, or whose images are all alike, varies as if one image more were as all are.
    """
    total, shares = int(n.sum()), k / n
    if total < UNITS:
        return None, too_few(total, "images")
    likely = (k + k.sum() / total) / (n + 1)
    variance = float((likely * (1 - likely) * (n + 1) / n**2).sum()) / len(n) ** 2
    return of_shares(Left(float(shares.mean()), variance, total, others=int(min(k.sum(), total - k.sum()))), "images")


def of_differences(left: Left, ends: bool, units: str) -> Found:
    """Of a mean in -1..1; `ends` says that each value is -1, 0 or 1: then Bonett & Price's (2012), by Student's t."""
    if lacking := _lacking(left, units):
        return None, lacking
    low, high = hall(_reckoned(left, ends))
    return (max(-1.0, low), min(1.0, high)), ""


def p_of_difference(left: Left, ends: bool) -> float | None:
    """How likely a difference is that is as far from 0 or further, if there is none; None without an interval.

    It belongs to the interval of `of_differences`: below 0.05 where that leaves out 0.
    """
    if _lacking(left, ""):
        return None
    found = _reckoned(left, ends)
    if found.variance <= 0:
        return 1.0 if found.value == 0 else 0.0
    t, bend = found.value / math.sqrt(found.variance), found.skewness / math.sqrt(found.units)
    return student_tails(t + bend * t**2 / 3 + bend**2 * t**3 / 27 + bend / 6, found.units - 1)


def _reckoned(left: Left, ends: bool) -> Left:
    """With the differences that were not seen: one more either way where each is -1, 0 or 1.

    Where few answers change, and all one way, half of one (Agresti & Min 2005) is too little.
    """
    n = left.units
    if ends:
        value = left.value * n / (n + 2)
        squares = n * (n - 1) * left.variance + n * left.value**2
        variance = ((squares + 2) / (n + 2) - value**2) / (n + 2)
        return replace(left, value=value, variance=variance, skewness=0.0)
    return replace(left, variance=left.variance + 2 * _unseen(left) / n**2)


def of_numbers(left: Left, units: str) -> Found:
    """Of a mean, or ratio, of numbers without limits."""
    if lacking := _lacking(left, units):
        return None, lacking
    if not left.others:
        return None, f"it is the same for all {left.units} {units}, so nothing is known of how far others differ"
    return hall(left), ""


def _lacking(left: Left, units: str) -> str:
    if left.units < UNITS:
        return too_few(left.units, units)
    return "" if math.isfinite(left.variance) else f"without one of the {units} there is no value"


def _unseen(left: Left) -> float:
    """As how many values at either end those count that were not seen: one where all units have the same value."""
    return 1 / (1 + left.others) ** 2


def hall(left: Left) -> Interval:
    """Student's interval corrected for skewness (Hall 1992, On the removal of skewness by transformation)."""
    bend, spread = left.skewness / math.sqrt(left.units), math.sqrt(left.variance)
    ends = np.array([1.0, -1.0]) * student(left.units - 1)
    if abs(bend) > 1e-6:
        ends = 3 / bend * (np.cbrt(1 + bend * (ends - bend / 6)) - 1)
    low, high = left.value - spread * ends
    return float(low), float(high)
