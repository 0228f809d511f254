"""Measures with their intervals: pure functions of numbers. All intervals are at 95 %.

How intervals come is told in core/intervals.

Those that take a name give a Measure, whose further fields are in `more`; without observations it has no value, and the
reason `why`. The others give intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuescope.core.draws import Draws
from cuescope.core.findings import Measure, Unit
from cuescope.core.intervals import (
    SAME,
    UNITS,
    Clusters,
    Found,
    Interval,
    Left,
    Numbers,
    hall,
    left_out,
    mean_of,
    of_differences,
    of_numbers,
    of_shares,
    once_each,
    p_of_difference,
    sign_test,
    student,
    too_few,
    wilson,
)

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
        interval, lacking = of_shares(left_out(mean_of, once_each(values), clusters), units)
    else:
        interval, lacking = (wilson(k, n), "") if n >= UNITS else (None, too_few(n, units))
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
    left = left_out(mean_of, once_each(data), clusters)
    if unit in ("share", "probability") and data.min() >= 0 and data.max() <= 1:
        if not len(clusters) and len(data) >= UNITS and np.isin(data, (0, 1)).all():
            interval, lacking = wilson(round(float(data.sum())), len(data)), ""
        else:
            interval, lacking = of_shares(left, units)
    elif unit == "difference" and np.abs(data).max() <= 1:
        interval, lacking = of_differences(left, bool(np.isin(data, (-1, 0, 1)).all()), units)
    else:
        interval, lacking = of_numbers(left, units)
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
    left = left_out(mean_of, np.stack([a, b], 1), clusters)
    of_ratio = of_shares if ((a >= 0) & (a <= b)).all() else of_numbers
    interval, lacking = of_ratio(left, units)
    return Measure(name, float(a.sum() / b.sum()), unit, int((b > 0).sum()), interval, lacking, **more)


def kept(
    name: str, after: Numbers, before: Numbers, beyond: tuple[float, float] = (0.0, 0.0), *, why: str = "", **more: Any
) -> Measure:
    """What share of the images right `before` is right `after`, of both what is `beyond` chance? 0 or 1 for each image.

    It is reckoned with one more image that is lost and one that is gained, as a difference is.

    >>> kept("kept", [1, 1, 0, 0], [1, 1, 1, 1]).value
    0.5
    """
    a, b = (np.asarray(values, float) - chance for values, chance in zip((after, before), beyond, strict=True))
    found = ratio(name, a, b, why=why, **more)
    if found.value is None or len(a) < UNITS:
        return found
    one_more = np.append(a, (-beyond[0], 1 - beyond[0])), np.append(b, (1 - beyond[1], -beyond[1]))
    interval, lacking = of_numbers(left_out(mean_of, np.stack(one_more, 1)), "images")
    if interval is not None:
        interval = min(interval[0], found.value), max(interval[1], found.value)
    return replace(found, interval=interval, why=lacking)


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


def correlation(name: str, a: Numbers, b: Numbers, *, units: str = "images", **more: Any) -> Measure:
    """How do a and b go along? Pearson's correlation, as `pearson` says, or why there is none."""
    value, interval, why = pearson(a, b, units)
    return Measure(name, value, "correlation", len(a) if value is not None else 0, interval, why=why, **more)


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


def paired_difference(a: Numbers, b: Numbers, *, clusters: Clusters = ()) -> tuple[float, Interval | None, int]:
    """Mean of a less mean of b over the same images, its interval, and the number of images.

    NaN marks an image that does not count for one of them (a decision for neither cue, say): each mean is over
    its own images, and images are left out as pairs, so what the two have in common cancels. Raises ValueError for
    other images, and where none counts for one side.
    """
    value, (interval, _) = _paired(np.asarray(a, float), np.asarray(b, float), clusters, "images")
    return value, interval, len(a)


def paired_p(a: Numbers, b: Numbers, *, clusters: Clusters = ()) -> float | None:
    """How likely are means of a and b that differ so much or more, over the same images, if they are alike?

    Exact (McNemar 1947) where each image is 0 or 1 for both; else it belongs to the interval of `paired_difference`.
    None where that has none.

    >>> paired_p([1] * 4 + [0] * 196, [0] * 200)
    0.125
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if len(x) >= UNITS and not len(clusters) and np.isin(np.concatenate([x, y]), (0, 1)).all():
        return sign_test(int((x > y).sum()), int((x != y).sum()))
    left, within, ends = _sides(x, y, clusters)
    return p_of_difference(left, ends) if within or left.others else None


def _paired(x: NDArray[Any], y: NDArray[Any], clusters: Clusters, units: str) -> tuple[float, Found]:
    left, within, ends = _sides(x, y, clusters)
    return left.value, of_differences(left, ends, units) if within else of_numbers(left, units)


def _sides(x: NDArray[Any], y: NDArray[Any], clusters: Clusters) -> tuple[Left, bool, bool]:
    """What their difference varies by, whether all numbers lie in 0..1, and whether all are 0 or 1."""
    if x.shape != y.shape:
        raise ValueError(f"paired values must be of the same images: {len(x)} and {len(y)}")
    columns = np.stack([np.nan_to_num(x), ~np.isnan(x), np.nan_to_num(y), ~np.isnan(y)], 1).astype(float)
    if not columns[:, 1].any() or not columns[:, 3].any():
        raise ValueError("one side has no image that counts")
    given = np.concatenate([x, y])
    given = given[~np.isnan(given)]
    within = bool(given.min() >= 0 and given.max() <= 1)
    return left_out(_less, columns, clusters), within, bool(np.isin(given, (0, 1)).all())


def _less(sums: NDArray[Any]) -> NDArray[Any]:
    """The mean of columns 0 and 1 less that of columns 2 and 3."""
    return mean_of(sums[..., :2]) - mean_of(sums[..., 2:])


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
    return value, hall(Left(value, variance, free + 1, skewness)), n


def pearson(a: Numbers, b: Numbers, units: str = "images") -> tuple[float | None, Interval | None, str]:
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
        return value, None, too_few(n, units)
    products = np.stack([x, y, x * x, y * y, x * y], 1)
    sums = (products.sum(0) - products) / (n - 1)
    covariance, variances = sums[:, 4] - sums[:, 0] * sums[:, 1], sums[:, 2:4] - sums[:, :2] ** 2
    if (variances <= SAME).any():
        return value, None, f"without one of the {units} one side is always the same"
    near = 1 - SAME
    z = np.arctanh(np.clip(covariance / np.sqrt(variances.prod(1)), -near, near))
    half = student(n - 1) * math.sqrt((n - 1) * float(z.var()))
    low, high = np.tanh(np.arctanh(np.clip(value, -near, near)) + half * np.array([-1, 1]))
    return value, (float(low), float(high)), ""
