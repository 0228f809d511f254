"""What do features tell of classes of which few images were seen? Draws, read-outs, and what the draws vary by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.core import stats
from cuescope.core.findings import Measure
from cuescope.core.intervals import student
from cuescope.methods.linear_probe import Features, fit
from cuescope.methods.probing import PENALTIES

LIMIT = 50
"""Images of a class that are told in a draw, at most (Fei-Fei et al.'s rule for Caltech-101)."""
HELD = 1 << 24
"""Numbers of the images to learn from that are held at once."""
ASKED = 1024
"""Images that are told at once."""
UNTRIED = 1.0
"""The penalty where a single image of each class leaves nothing to validate with."""

Right = NDArray[np.float16]
"""(draws, n): 1 where an image was told right in a draw, 0 where not, NaN where it was not asked."""


def usable(classes: NDArray[np.int64], counts: Sequence[int]) -> list[int]:
    """The counts of images a class that leave one of each class to be told.

    >>> usable(np.array([0, 0, 0, 1, 1, 1, 1]), (1, 2, 5))
    [1, 2]
    """
    least = int(np.bincount(classes).min())
    return [count for count in counts if count < least]


def told(x: Features, classes: NDArray[np.int64], count: int, draws: int, seed: int = 0) -> Right:
    """Which images are told right by read-outs of so many images of each class, draw by draw?

    `x` are standardized features (n, D). A draw's first images of each class are learned from, its last ones, at most
    `LIMIT`, are told; a draw of more images holds those of fewer. The penalty is chosen for each draw by a fifth of its
    images a class, one at least.

    >>> x = torch.arange(40.0)[:, None] % 2 * 2 - 1
    >>> float(np.nanmean(told(x, np.arange(40) % 2, count=2, draws=3)))
    1.0
    """
    orders = [_order(classes, seed + draw) for draw in range(draws)]
    learned = torch.tensor(np.stack([[i for own in order for i in own[:count]] for order in orders]))
    found: Right = np.full((draws, len(classes)), np.nan, np.float16)
    y = torch.from_numpy(classes)
    many = max(1, HELD // (len(PENALTIES) * learned.shape[1] * min(x.shape[1], learned.shape[1])))
    for part in torch.arange(draws).split(many):
        some = learned[part]
        weights, biases = _read(_taken(x, some.flatten()).view(*some.shape, -1), y[some], count)
        for at, draw in enumerate(part.tolist()):
            asked = np.concatenate([own[count:][-LIMIT:] for own in orders[draw]])
            for few in np.split(asked, range(ASKED, len(asked), ASKED)):
                answers = (_taken(x, few) @ weights[at].T + biases[at]).argmax(1)
                found[draw, few] = answers.numpy() == classes[few]
    return found


def _taken(x: Features, rows: Any) -> Tensor:
    return x[rows] if isinstance(x, Tensor) else torch.from_numpy(x.take(rows))


def _order(classes: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """The images of each class in the order of a draw."""
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    return [shuffled[classes[shuffled] == k] for k in range(int(classes.max()) + 1)]


def _read(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Weights (B, K, D) and biases (B, K) of read-outs of images (B, m, D), `count` of each class in turn."""
    draws, images, _ = x.shape
    few, back = _few(x)
    classes, penalties = images // count, torch.tensor(PENALTIES)
    best = torch.full((draws,), UNTRIED)
    if count > 1:
        left_out = torch.arange(images) % count < max(1, count // 5)
        each = few.repeat_interleave(len(penalties), 0), y.repeat_interleave(len(penalties), 0)
        tried = fit(*each, (~left_out).expand(len(each[0]), -1), penalties.repeat(draws), classes)
        right = (tried.scores(each[0]).argmax(1) == each[1])[:, left_out].double().mean(1).reshape(draws, -1)
        # Of penalties that do alike the largest.
        best = penalties[(len(PENALTIES) - 1) - right.flip(1).argmax(1)]
    made = fit(few, y, torch.ones(draws, images), best, classes)
    return (made.weights if back is None else made.weights @ back.transpose(1, 2)), made.biases


def _few(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Features (B, m, D) in at most m numbers that keep all products, and what brings weights back (B, D, m)."""
    if x.shape[2] <= x.shape[1]:
        return x, None
    values, vectors = torch.linalg.eigh(x.double() @ x.double().transpose(1, 2))
    sizes = values.clamp_min(0).sqrt()
    some = sizes > 1e-6 * sizes.amax(1, keepdim=True)
    inverse = torch.where(some, 1 / sizes.clamp_min(1e-12), 0.0)
    back = x.double().transpose(1, 2) @ (vectors * inverse[:, None])
    return (vectors * sizes[:, None]).float(), back.float()


def accuracy(name: str, right: Right, classes: NDArray[np.int64], **more: Any) -> Measure:
    """The mean over classes of the share told right, or of a difference of two such, over all draws.

    The interval is that over images, with the spread of the draws added: other images to learn from give other numbers.
    """
    asked = ~np.isnan(right)
    per_class = np.stack([[asked[d, classes == k].sum() for k in range(classes.max() + 1)] for d in range(len(right))])
    weights = np.where(asked, 1 / np.maximum(per_class[:, classes], 1), 0.0)
    hits = np.nan_to_num(right) * weights
    found = stats.ratio(name, hits.sum(0), weights.sum(0), **more)
    means = hits.sum(1) / weights.sum(1)
    if found.value is None or found.interval is None:
        return found
    if len(means) < 2:
        return replace(found, interval=None, why="an interval needs at least two draws")
    half = student(len(means) - 1) * float(means.std(ddof=1)) / math.sqrt(len(means))
    low, high = (end - found.value for end in found.interval)
    span = found.value - math.hypot(low, half), found.value + math.hypot(high, half)
    bottom = -1.0 if found.unit == "difference" else 0.0
    return replace(found, interval=(max(span[0], bottom), min(span[1], 1.0)))
