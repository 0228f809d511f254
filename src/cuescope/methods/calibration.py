"""Does confidence tell how often the answer is right? Pure functions of confidences (n,) and right answers (n,).

Errors of calibration are larger than 0 by chance alone where they add up distances: of 500 images of a calibrated
classifier the expected calibration error is about 0.05. So each stands beside what a calibrated classifier with the
same confidences would have, and the squared error is debiased, so that it is 0 on average there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuescope.core.draws import RESAMPLES
from cuescope.core.intervals import Interval, student

Array = NDArray[Any]

CELLS = 256
"""Cells of confidence that residuals are summed in before they are smoothed."""
FOLDS = 10
BLOCK = 2_000_000
"""Numbers that are drawn at once."""


@dataclass(frozen=True)
class Error:
    """An error of calibration that is never below 0."""

    value: float
    interval: Interval
    """Pivotal, from resampled images: 2 value - quantiles, clipped at 0, since resampling adds to such an error."""
    null: float
    """Its mean if the confidences were right."""
    p: float
    """How likely it is to be as large or larger if they were."""


def by_bins(confidence: Array, right: Array, bins: int, seed: int = 0) -> Error:
    """Expected calibration error over equally wide bins, closed on the right (Guo et al. 2017, eq. 3)."""
    return _error(confidence, right, _wide(confidence, bins), bins, lambda sums: np.abs(sums).sum(-1), seed)


def smooth(confidence: Array, right: Array, seed: int = 0) -> Error:
    """Smooth calibration error (Blasiok & Nakkiran 2023): no bins, and of the width that equals the error itself."""
    return _error(confidence, right, _wide(confidence, CELLS), CELLS, smooth_of, seed)


def squared(confidence: Array, right: Array, seed: int = 0) -> tuple[float, Interval | None]:
    """Debiased squared calibration error over bins of equally many images (Kumar et al. 2019), and its interval.

    It is 0 on average for a calibrated classifier, and so may be below. The interval is a jackknife's of ten parts:
    images drawn twice would break the correction. None under 20 images.

    >>> value, interval = squared(np.full(40, 0.5), np.array([0.0, 1.0] * 20))
    >>> value < 0.01, interval is not None
    (True, True)
    """
    value, n = _squared(confidence, right), len(confidence)
    if n < 2 * FOLDS:
        return value, None
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    without = np.array([_squared(confidence[fold != k], right[fold != k]) for k in range(FOLDS)])
    half = student(FOLDS - 1) * math.sqrt((FOLDS - 1) * float(without.var()))
    return value, (value - half, value + half)


def mass_bins(n: int) -> int:
    """Bins of equally many images: 15, of ten images each at least."""
    return int(np.clip(n // 10, 1, 15))


def reliability(confidence: Array, right: Array, seed: int = 0) -> tuple[list[Array], Array, Array]:
    """Bins of equally many images, the least confident first: which images lie in each, and what 90 % of calibrated
    classifiers would be right about in it, from "low" to "high".
    """
    parts = np.array_split(np.argsort(confidence, kind="stable"), mass_bins(len(confidence)))
    n, place = np.array([len(part) for part in parts]), np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    p = confidence[np.concatenate(parts)]
    drawn = np.concatenate([_sums(block, place, len(parts)) for block in _calibrated(p, seed)]) / n
    low, high = np.percentile(drawn, [5, 95], axis=0) + np.bincount(place, p) / n
    return parts, np.clip(low, 0, 1), np.clip(high, 0, 1)


def smooth_of(sums: Array) -> Array:
    """Smooth errors (...) of residuals, right less confidence, summed in cells of confidence (..., CELLS) over n.

    A Gaussian that is reflected at 0 and 1 shrinks each cosine by itself; the width is found by bisection.
    """
    waves = np.arange(CELLS // 2, dtype=np.float32)  # of the others little is left after a width of two cells
    cosines = np.cos(np.float32(np.pi) * np.outer((np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS, waves))
    parts = sums.astype(np.float32) @ cosines * np.where(waves, np.float32(2), np.float32(1))

    def smoothed(width: Array) -> Array:
        kept = np.exp(-((np.float32(np.pi) * waves * width[..., None].astype(np.float32)) ** 2) / 2)
        return np.abs((parts * kept) @ cosines.T).mean(-1)

    low, high = np.full(sums.shape[:-1], 1e-3), np.ones(sums.shape[:-1])
    for _ in range(10):
        middle = (low + high) / 2
        wide = smoothed(middle) < middle
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return smoothed((low + high) / 2)


def _squared(confidence: Array, right: Array) -> float:
    total = 0.0
    for part in np.array_split(np.argsort(confidence, kind="stable"), mass_bins(len(confidence))):
        if len(part) > 1:
            p, c = confidence[part].mean(), right[part].mean()
            total += len(part) * ((p - c) ** 2 - c * (1 - c) / (len(part) - 1))
    return float(total / len(confidence))


def _wide(confidence: Array, bins: int) -> Array:
    """Which of the equally wide bins (low, high] each confidence lies in."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def _error(confidence: Array, right: Array, place: Array, bins: int, of: Any, seed: int) -> Error:
    n, residuals = len(confidence), right - confidence
    value = float(of(_sums(residuals[None], place, bins) / n)[0])
    null = np.concatenate([of(_sums(block, place, bins) / n) for block in _calibrated(confidence, seed)])
    random, resampled = np.random.default_rng([seed, 1]), []
    for size in _sizes(n):
        index = random.integers(0, n, (size, n))
        resampled.append(of(_sums(residuals[index], place[index], bins) / n))
    low, high = 2 * value - np.percentile(np.concatenate(resampled), [97.5, 2.5])
    p = (1 + int((null >= value).sum())) / (1 + len(null))
    return Error(value, (max(0.0, float(low)), max(0.0, float(high))), float(null.mean()), p)


def _sums(residuals: Array, place: Array, bins: int) -> Array:
    """(r, n) residuals, each in its bin (n,) or (r, n), to sums (r, bins)."""
    rows = np.arange(len(residuals))[:, None] * bins
    return np.bincount((rows + place).ravel(), residuals.ravel(), len(residuals) * bins).reshape(-1, bins)


def _calibrated(confidence: Array, seed: int) -> Iterator[Array]:
    """Blocks (some, n) of right less confidence, where each answer is right as often as its confidence says."""
    random = np.random.default_rng(seed)
    for size in _sizes(len(confidence)):
        yield (random.random((size, len(confidence))) < confidence) - confidence


def _sizes(n: int) -> Iterator[int]:
    rows = max(1, BLOCK // max(1, n))
    for start in range(0, RESAMPLES, rows):
        yield min(rows, RESAMPLES - start)
