"""How alike are the logits of two classifiers, class by class? Correlations over images, with their intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cuescope.core.intervals import SAME, UNITS, student

FLAT = 1e-6
"""A logit whose standard deviation over images is below this share of its size says nothing of the image."""

Array = np.ndarray[Any, Any]


def against_mean(logits: Array) -> Array:
    """(N, K) logits less their mean over the classes; those of a single class as they are.

    >>> against_mean(np.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """
    return logits - logits.mean(1, keepdims=True) if logits.shape[1] > 1 else logits


def correlations(x: Array, y: Array) -> Array:
    """Pearson's correlation of each column of x with that of y, (N, K) each to (K,); NaN where one never changes.

    >>> correlations(np.array([[1.0, 5], [2, 5], [3, 5]]), np.array([[3.0, 1], [2, 2], [1, 3]])).round(6).tolist()
    [-1.0, nan]
    """
    if len(x) < 3:
        return np.full(x.shape[1], np.nan)
    return np.where(_varies(x) & _varies(y), np.clip((_scaled(x) * _scaled(y)).mean(0), -1, 1), np.nan)


def _varies(x: Array) -> Array:
    return x.std(0) > FLAT * np.maximum(np.abs(x).max(0), 1e-12)


def _scaled(x: Array) -> Array:
    """Each column with mean 0 and standard deviation 1; what never changes becomes 0."""
    return np.where(_varies(x), (x - x.mean(0)) / np.where(_varies(x), x.std(0), 1), 0)


def intervals(x: Array, y: Array) -> tuple[tuple[float, float] | None, ...]:
    """Intervals over images of both correlations, as `stats.pearson` has them: Student's of Fisher's z, whose variance
    is found by leaving out one image at a time. None where without one of the images a class never changes.

    >>> intervals(np.eye(3), np.eye(3))
    (None, None)
    """
    n, classes = x.shape
    if n < UNITS:
        return None, None
    total, varies = np.zeros(n), True
    for start in range(0, classes, 256):
        a, b = (_scaled(part[:, start : start + 256]) for part in (x, y))
        r, known = _left_out((a, b, a * a, b * b, a * b), n - 1)
        total, varies = total + r.sum(1), varies and known
    whole = [part - part.mean() for part in (x, y)]
    moments = [part.sum(1) for part in (*whole, whole[0] ** 2, whole[1] ** 2, whole[0] * whole[1])]
    flat = np.corrcoef(x.ravel(), y.ravel())[0, 1]
    averaged = float((_scaled(x) * _scaled(y)).mean())
    without = _left_out(moments, (n - 1) * classes)[0]
    return _of_z(averaged, total / classes) if varies else None, _of_z(float(flat), without)


def _left_out(moments: Sequence[Array], count: int) -> tuple[Array, bool]:
    """Correlations without each image, from its part in the sums of a, b, aa, bb, ab; and whether all are known."""
    ma, mb, aa, bb, ab = ((part.sum(0) - part) / count for part in moments)
    va, vb = aa - ma * ma, bb - mb * mb
    known = bool((np.minimum(va, vb) > FLAT).all())
    return (ab - ma * mb) / np.sqrt(np.maximum(va * vb, 1e-300)), known


def _of_z(value: float, without: Array) -> tuple[float, float]:
    near, n = 1 - SAME, len(without)
    z = np.arctanh(without.clip(-near, near))
    half = student(n - 1) * np.sqrt((n - 1) * z.var())
    low, high = np.tanh(np.arctanh(np.clip(value, -near, near)) + half * np.array([-1, 1]))
    return float(low), float(high)
