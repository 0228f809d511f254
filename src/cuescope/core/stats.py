"""Measures with their intervals: pure functions, seeded by argument. All intervals are at 95 %.

Those that take a name give a Measure, whose further fields are in `more`; without observations it has no value, and the
reason `why`. The others give intervals.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core.findings import Measure, Unit

Z95 = 1.959963984540054
RESAMPLES = 2000
BLOCK = 4_000_000
"""Numbers that resampling holds at once."""

Numbers = Sequence[float] | NDArray[Any] | pl.Series


Clusters = Sequence[Sequence[Any] | NDArray[Any] | pl.Series]
"""Up to two columns of labels, (n,) each: values with the same label share something (an object, a texture) and are
resampled together; two columns are resampled independently of each other (Owen 2007, the pigeonhole bootstrap)."""

NOTHING = "nothing was seen"


def share(
    name: str, hits: Numbers | int, n: int | None = None, *, clusters: Clusters = (), why: str = NOTHING, **more: Any
) -> Measure:
    """What share of n are hits? `hits` is their number, with `n`, or a 0 or 1 for each; the interval is Wilson's.

    With `clusters` hits are resampled as these say.

    >>> share("top1", [True, False, True, True]).count
    3
    """
    values = np.empty(0)
    if n is None:
        values = np.asarray(hits, dtype=float)
        hits, n = round(float(values.sum())), len(values)
    k = int(hits)  # type: ignore[arg-type] - a number where n is given
    if not n:
        return Measure(name, None, "share", why=why, **more)
    interval = wilson(k, n) if not len(clusters) else _percentiles(_cluster_means(values, clusters))
    return Measure(name, k / n, "share", n, interval, count=k, **more)


def mean(name: str, values: Numbers, unit: Unit = "share", *, why: str = NOTHING, **more: Any) -> Measure:
    """What is the mean of these values, one an image (or another unit that is resampled)? One value has no interval.

    >>> mean("mac", [0.1, 0.1], "probability").interval
    (0.1, 0.1)
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return Measure(name, None, unit, why=why, **more)
    return Measure(name, float(data.mean()), unit, len(data), bootstrap_mean(data) if len(data) > 1 else None, **more)


def mean_share(name: str, shares: Numbers, *, why: str = NOTHING, **more: Any) -> Measure:
    """What is the mean of these shares in 0..1, one an image? The interval is as `mean_of_shares` says."""
    data = np.asarray(shares, dtype=float)
    if not len(data):
        return Measure(name, None, "share", why=why, **more)
    return Measure(name, float(data.mean()), "share", len(data), mean_of_shares(data), **more)


def ratio(name: str, above: Numbers, below: Numbers, unit: Unit = "share", *, why: str = "", **more: Any) -> Measure:
    """What is sum(above) / sum(below), over pairs that are resampled together? n counts pairs with below > 0.

    >>> ratio("changed", [1.0, 0.0], [1.0, 1.0]).value
    0.5
    """
    a, b = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    if not b.sum():
        return Measure(name, None, unit, why=why or NOTHING, **more)
    return Measure(name, float(a.sum() / b.sum()), unit, int((b > 0).sum()), bootstrap_ratio(a, b), **more)


def difference(name: str, a: Numbers, b: Numbers, *, why: str = NOTHING, **more: Any) -> Measure:
    """By how much is the mean of a above that of b, over the same images? As `paired_difference` says."""
    value, interval, n = paired_difference(a, b) if len(a) else (None, None, 0)
    return Measure(name, value, "difference", n, interval, why="" if len(a) else why, **more)


def correlation(name: str, a: Numbers, b: Numbers, **more: Any) -> Measure:
    """How do a and b go along? Pearson's correlation, as `pearson` says, or why there is none."""
    value, interval, why = pearson(a, b)
    return Measure(name, value, "correlation", len(a) if value is not None else 0, interval, why=why, **more)


def wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a share k of n (Wilson 1927). Raises ValueError for n = 0.

    >>> low, high = wilson(297, 500)
    >>> round(low, 3), round(high, 3)
    (0.55, 0.636)
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"no share of {k} in {n}")
    p, z2 = k / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


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


def mean_of_shares(values: Numbers, seed: int = 0) -> tuple[float, float]:
    """Interval of a mean of shares in 0..1, one a unit that is resampled: by the bootstrap, where they differ.

    Where all are 0 or all are 1 no resample differs, and yet the next unit may: then Wilson's interval of as many
    trials, which is rather too wide. Raises ValueError for no value.

    >>> [round(bound, 3) for bound in mean_of_shares([0.0] * 100)]
    [0.0, 0.037]
    """
    data = np.asarray(values, dtype=float)
    if (data == 0).all() or (data == 1).all():
        return wilson(int(data.sum()), len(data))
    return bootstrap_mean(data, seed) if len(data) > 1 else (0.0, 1.0)


def independent_difference(
    a: float, a_interval: tuple[float, float], b: float, b_interval: tuple[float, float]
) -> tuple[float, float]:
    """Interval of a - b from those of both, of different images (Newcombe 1998, method 10; Zou & Donner 2008)."""
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


def paired_difference(a: Numbers, b: Numbers, seed: int = 0) -> tuple[float, tuple[float, float] | None, int]:
    """Mean of a less mean of b over the same images, its bootstrap interval, and the number of images.

    NaN marks an image that does not count for one of them (a decision for neither cue, say): each mean is over
    its own images, and images are resampled as pairs, so what the two have in common cancels. Raises ValueError for
    other images, and where none counts for one side.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape:
        raise ValueError(f"paired values must be of the same images: {len(x)} and {len(y)}")
    columns = np.stack([np.nan_to_num(x), ~np.isnan(x), np.nan_to_num(y), ~np.isnan(y)], 1).astype(float)
    total = columns.sum(0)
    if total[1] == 0 or total[3] == 0:
        raise ValueError("one side has no image that counts")
    value = float(total[0] / total[1] - total[2] / total[3])
    sums = _resampled(columns, seed)
    if len(x) < 2 or (sums[:, [1, 3]] == 0).any():
        return value, None, len(x)
    return value, _percentiles(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]), len(x)


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
) -> tuple[float | None, tuple[float, float] | None, int]:
    """Mean over groups of the mean over all pairs of a group, its bootstrap interval, and the number of pairs.

    A group is its members' numbers (n,) and the symmetric values of their pairs (n, n), NaN for none. Groups count
    alike, however many pairs they have. Things are resampled, not pairs, which are not independent; a thing drawn twice
    makes no pair with itself. A resample leaves out groups without a pair (see `interval_of`).

    >>> pair_mean([(np.arange(3), np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]]))], Draws([0, 0, 0]))
    (2.0, None, 3)
    """
    known = [(m, np.isfinite(values) & ~np.eye(len(m), dtype=bool), values) for m, values in groups]
    filled = [(m, where, np.where(where, values, 0.0)) for m, where, values in known if where.any()]
    if not filled:
        return None, None, 0
    resampled = np.concatenate([_pair_means(filled, block) for block in drawn])
    means = [float(values.sum() / where.sum()) for _, where, values in filled]
    return float(np.mean(means)), interval_of(resampled), sum(int(where.sum()) // 2 for _, where, _ in filled)


def _pair_means(groups: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], drawn: NDArray[Any]) -> NDArray[Any]:
    """Of each resample of a block the mean over the groups that have a pair in it; NaN where none has."""
    total, count = np.zeros(len(drawn)), np.zeros(len(drawn))
    for members, known, values in groups:
        weights = drawn[:, members]
        below = ((weights @ known) * weights).sum(1)
        total += ((weights @ values) * weights).sum(1) / np.maximum(below, 1)
        count += below > 0
    return np.divide(total, count, out=np.full(len(drawn), np.nan), where=count > 0)


def pearson(a: Numbers, b: Numbers, seed: int = 0) -> tuple[float | None, tuple[float, float] | None, str]:
    """Correlation of a and b, its percentile bootstrap interval (pairs resampled), and why either of them is None.

    There is no correlation of fewer than three pairs, nor where one side is always the same; resamples in which a side
    is always the same are left out (see `interval_of`).

    >>> value, interval, why = pearson([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0])
    >>> round(value, 6)
    1.0
    """
    pairs = np.stack([np.asarray(a, float), np.asarray(b, float)], 1)
    if len(pairs) < 3:
        return None, None, f"a correlation needs at least three pairs, not {len(pairs)}"
    spread = pairs.std(0)
    if (spread <= 1e-9 * np.abs(pairs).max(0)).any():
        return None, None, "one side is always the same, so nothing can go along with it"
    x, y = ((pairs - pairs.mean(0)) / spread).T
    value = float(np.clip((x * y).mean(), -1, 1))
    sums = _resampled(np.stack([x, y, x * x, y * y, x * y], 1), seed) / len(pairs)
    covariance, variances = sums[:, 4] - sums[:, 0] * sums[:, 1], sums[:, 2:4] - sums[:, :2] ** 2
    varies = variances.min(1) > 1e-9
    resampled = np.full(len(sums), np.nan)
    resampled[varies] = np.clip(covariance[varies] / np.sqrt(variances[varies].prod(1)), -1, 1)
    interval = interval_of(resampled)
    return value, interval, "" if interval else "too few different pairs for an interval"


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


def _cluster_means(values: NDArray[Any], clusters: Clusters, seed: int = 0) -> NDArray[Any]:
    """(RESAMPLES,) means of values whose clusters are drawn with replacement; two kinds of clusters cross."""
    random, weights = np.random.default_rng(seed), np.ones((RESAMPLES, len(values)))
    for labels in clusters:
        known, place = np.unique(np.asarray(labels), return_inverse=True)
        weights *= random.multinomial(len(known), np.full(len(known), 1 / len(known)), RESAMPLES)[:, place]
    total = weights.sum(1)
    return np.divide(weights @ values, total, out=np.full(RESAMPLES, np.nan), where=total > 0)


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
