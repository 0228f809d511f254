"""How often is each thing drawn in each of many resamples? And what interval do the resamples give?"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuescope.core.intervals import UNITS, Clusters

RESAMPLES = 2000
BLOCK = 4_000_000
"""Numbers that resampling holds at once."""


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


def crossed(clusters: Clusters, seed: int, resamples: int) -> Iterator[NDArray[Any]]:
    """How often is each thing drawn in each resample, where its clusters are what is drawn? Blocks (some, n).

    Each column of clusters is resampled for itself, and a thing is drawn as often as its clusters together: with two
    columns the pigeonhole bootstrap (Owen 2007), whose intervals are rather too wide.

    >>> next(crossed([["a", "a", "b"]], 1, 2)).tolist()
    [[1.0, 1.0, 1.0], [2.0, 2.0, 0.0]]
    """
    random, n = np.random.default_rng(seed), len(clusters[0])
    places = [np.unique(np.asarray(labels), return_inverse=True)[1] for labels in clusters]
    for start in range(0, resamples, rows := max(1, BLOCK // max(1, n))):
        weights = np.ones((min(rows, resamples - start), n))
        for place in places:
            count = int(place.max(initial=0)) + 1
            weights *= random.multinomial(count, np.full(count, 1 / count), len(weights))[:, place]
        yield weights


def bootstrap_of_means(
    values: NDArray[Any], of: Callable[[NDArray[Any]], NDArray[Any]], seed: int = 0, *, clusters: Clusters = ()
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of what `of` makes of the column means of `values` (n, k), rows resampled.

    `of` takes the means of all resamples (r, k) and gives (r,) numbers: where it is no smooth function of them, as a
    place of the largest, nothing can be left out. None for fewer than two rows, or `UNITS` clusters.

    >>> bootstrap_of_means(np.array([[0.0, 1.0], [0.0, 1.0]]), lambda means: (means > 0.5).mean(1))
    (0.5, 0.5)
    """
    if len(values) < 2:
        return None
    if not len(clusters):
        return _percentiles(of(_resampled(np.asarray(values, float), seed) / len(values)))
    if min(len(np.unique(np.asarray(labels))) for labels in clusters) < UNITS:
        return None
    drawn = (weights[weights.any(1)] for weights in crossed(clusters, seed, RESAMPLES))
    found = [of(weights @ values / weights.sum(1, keepdims=True)) for weights in drawn]
    return _percentiles(np.concatenate(found))


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
