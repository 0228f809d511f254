"""Confident learning in its minimal form: which labels does a classifier contradict, and how many would it anyway?

Northcutt, Jiang and Chuang 2021, with the details of cleanlab 2.9: probabilities are compared with the mean
self-confidence of each class, what is counted is scaled to the counts of the labels, and of each pair of classes as
many images are flagged as it has. Probabilities must be of a classifier that has not seen the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NEVER = 2.0
"""Threshold of a class that no label names: no probability reaches it."""
LEAST_THRESHOLD = 2e-6
TOLERANCE = 1e-6
"""By how much a probability may miss its class's threshold."""
DRAWS = 40
"""So often labels are drawn from the probabilities."""
RESAMPLES = 200
NOISE = np.array([0.0, *np.geomspace(0.002, 0.6, 24)])
"""Shares of labels at random among which the best is looked for, together with a temperature."""


@dataclass(frozen=True, eq=False)
class Logits:
    """The largest m of the logits of n images, and of the others their mean as if they were alike.

    `classes` and `values` are (n, m), the largest first; `rest` (n,) is the logit of each other class, of which there
    are `outcomes` - m. Exact where m is `outcomes`, and in any case at temperature 1.
    """

    classes: Array
    values: Array
    rest: Array
    outcomes: int

    @classmethod
    def of(cls, logits: Array, kept: int) -> Logits:
        """From all logits (n, K), of which `kept` stay.

        >>> found = Logits.of(np.array([[0.0, 2.0, 0.0, 0.0]]), 2)
        >>> found.classes.tolist(), found.values.tolist(), found.rest.tolist()
        ([[1, 0]], [[2.0, 0.0]], [0.0])
        """
        n, outcomes = logits.shape
        order = np.argsort(-logits, 1, kind="stable")
        top, others = order[:, :kept], np.take_along_axis(logits, order[:, kept:], 1)
        rest = np.full(n, -np.inf)
        if others.shape[1]:
            most = others.max(1)
            rest = most + np.log(np.exp(others - most[:, None]).mean(1))
        return cls(top, np.take_along_axis(logits, top, 1), rest, outcomes)

    @classmethod
    def joined(cls, some: Sequence[Logits]) -> Logits:
        """Those of several sets of images, one after another."""
        parts = zip(*((one.classes, one.values, one.rest) for one in some), strict=True)
        classes, values, rest = map(np.concatenate, parts)
        return cls(classes, values, rest, some[0].outcomes)

    def at(self, temperature: float) -> Probabilities:
        """The probabilities at a temperature."""
        others = self.outcomes - self.classes.shape[1]
        scaled, rest = self.values / temperature, self.rest / temperature
        most = scaled[:, :1]
        top, each = np.exp(scaled - most), np.exp(rest - most[:, 0]) if others else np.zeros(len(rest))
        total = top.sum(1) + others * each
        return Probabilities(self.classes, top / total[:, None], each / total, self.outcomes)


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The probabilities (n, m) of the likeliest classes (n, m), and that of each other class (n,)."""

    classes: Array
    top: Array
    rest: Array
    outcomes: int

    @classmethod
    def of(cls, values: Array) -> Probabilities:
        """From the probabilities of all classes (n, K)."""
        order = np.argsort(-values, 1, kind="stable")
        return cls(order, np.take_along_axis(values, order, 1), np.zeros(len(values)), values.shape[1])

    def of_class(self, classes: Array) -> Array:
        """(n,): of each image the probability of one class."""
        same = self.classes == classes[:, None]
        return np.where(same.any(1), np.where(same, self.top, 0).sum(1), self.rest)

    def drawn(self, random: np.random.Generator) -> Array:
        """(n,): a label of each image, drawn from its probabilities."""
        chance = random.random(len(self.top))
        place = (self.top.cumsum(1) < chance[:, None]).sum(1)
        within = place < self.top.shape[1]
        found = np.take_along_axis(self.classes, np.where(within, place, 0)[:, None], 1)[:, 0]
        # One of the other classes, which are all alike.
        return np.where(within, found, random.integers(0, self.outcomes, len(found)))


class Learned(NamedTuple):
    """What confident learning says: thresholds (K,); of each image its confident class (n,), -1 for none; the joint of
    labels and confident classes, scaled, as `given`, `true` and `joint`, the share of each pair; the flagged images and
    for each the class that it is flagged for, -1 for none (n,).
    """

    thresholds: Array
    confident: Array
    given: Array
    true: Array
    joint: Array
    flagged: Array

    @property
    def noise(self) -> float:
        """The estimated share of labels that are not the true ones: the joint beside its diagonal."""
        return float(self.joint[self.given != self.true].sum())


def learn(p: Probabilities, labels: Array, *, flag: bool = True) -> Learned:
    """Which labels (n,) does a classifier of these probabilities contradict, by the rate of each pair of classes?

    `flag` says whether images are wanted besides the joint ("prune by noise rate").

    >>> p = np.array([[0.9, 0.1]] * 9 + [[0.1, 0.9]] * 10)
    >>> np.flatnonzero(learn(Probabilities.of(p), np.array([0] * 9 + [0] + [1] * 9)).flagged >= 0)
    array([9])
    """
    counts = np.bincount(labels, minlength=p.outcomes)
    sums = np.bincount(labels, p.of_class(labels), minlength=p.outcomes)
    thresholds = np.where(counts > 0, np.maximum(sums / np.maximum(counts, 1), LEAST_THRESHOLD), NEVER)
    passes = p.top >= thresholds[p.classes] - TOLERANCE
    # Where several pass, the likeliest of all is taken.
    first = np.where(passes.sum(1) > 1, 0, passes.argmax(1))
    confident = np.where(passes.any(1), np.take_along_axis(p.classes, first[:, None], 1)[:, 0], -1)
    known, own = confident >= 0, np.flatnonzero(counts)
    # Each class's own label was seen once at least.
    pairs, times = np.unique(labels[known] * p.outcomes + confident[known], return_counts=True)
    pairs, place = np.unique(np.concatenate([pairs, own * (p.outcomes + 1)]), return_inverse=True)
    times = np.maximum(np.bincount(place[: len(times)], times, minlength=len(pairs)), 0)
    given, true = pairs // p.outcomes, pairs % p.outcomes
    times = np.where(given == true, np.maximum(times, 1), times)
    scaled = times / np.bincount(given, times, minlength=p.outcomes)[given] * counts[given]
    flagged = _flag(p, labels, pairs, _rounded(scaled, given), counts) if flag else np.full(len(labels), -1)
    return Learned(thresholds, confident, given, true, scaled / len(labels), flagged)


def _rounded(scaled: Array, given: Array) -> Array:
    """Whole numbers that keep the sum of each label: rounded down, and the largest remainders up, of equal ones those
    of later classes, as in cleanlab.
    """
    whole = np.floor(scaled + 1e-9)
    left = np.rint(np.bincount(given, scaled) - np.bincount(given, whole)).astype(int)
    order = np.lexsort((-np.arange(len(given)), whole - scaled, given))
    start = np.searchsorted(given[order], given[order], "left")
    up = np.arange(len(order)) - start < left[given[order]]
    whole[order[up]] += 1
    return whole.astype(int)


def _flag(p: Probabilities, labels: Array, pairs: Array, times: Array, counts: Array) -> Array:
    """Of each pair (label, class), as label * K + class, so many images: those with the largest margin of the class."""
    flagged, margin = np.full(len(labels), -1), p.top - p.of_class(labels)[:, None]
    code = labels[:, None] * p.outcomes + p.classes
    place = np.searchsorted(pairs, code).clip(max=len(pairs) - 1)
    # A single label is never flagged: nothing else says what its class looks like.
    asked = (pairs[place] == code) & (p.classes != labels[:, None]) & (counts[labels] > 1)[:, None]
    image, slot = np.nonzero(asked & (times[place] > 0))
    pair, margin = place[image, slot], margin[image, slot]
    order = np.lexsort((-margin, pair))
    rank = np.arange(len(order)) - np.searchsorted(pair[order], pair[order], "left")
    chosen = order[rank < times[pair[order]]]
    chosen = chosen[np.argsort(margin[chosen], kind="stable")]  # of several classes of an image the one that wins most
    flagged[image[chosen]] = p.classes[image[chosen], slot[chosen]]
    return flagged


def calibrated(logits: Logits, labels: Array) -> tuple[float, float]:
    """The temperature at which the classifier is as sure as it is right, and the share of labels at random beside it.

    Both by the likelihood of the labels, (1 - share) p(label) + share / K: labels that nothing explains do not make the
    classifier less sure. Scaling all logits scales the temperature and changes nothing else.
    """
    size = np.log(max(float((logits.values[:, 0] - logits.values[:, -1]).mean()), 1e-9))
    low, high = size - 7.0, size + 2.0
    best = (-np.inf, 1.0, 0.0)
    for _ in range(3):
        for temperature in np.exp(np.linspace(low, high, 25)):
            own = logits.at(temperature).of_class(labels)
            mixed = (1 - NOISE[:, None]) * own + NOISE[:, None] / logits.outcomes
            likelihood = np.log(np.maximum(mixed, 1e-300)).mean(1)
            at = int(likelihood.argmax())
            best = max(best, (float(likelihood[at]), float(temperature), float(NOISE[at])))
        step = (high - low) / 24
        low, high = np.log(best[1]) - step, np.log(best[1]) + step
    return best[1], best[2]


def expected(p: Probabilities, seed: int = 0, draws: int = DRAWS) -> Array:
    """(draws,): the shares of images that are flagged where the labels are drawn from the probabilities themselves.

    What is flagged then is no error but the overlap of classes, as far as the probabilities are right.
    """
    random = np.random.default_rng(seed)
    return np.array([float((learn(p, p.drawn(random)).flagged >= 0).mean()) for _ in range(draws)])


def resampled_noise(p: Probabilities, labels: Array, seed: int = 0) -> Array:
    """(RESAMPLES,): the estimated noise where images are drawn with replacement."""
    random, values = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        drawn = random.integers(0, len(labels), len(labels))
        part = Probabilities(p.classes[drawn], p.top[drawn], p.rest[drawn], p.outcomes)
        values.append(learn(part, labels[drawn], flag=False).noise)
    return np.array(values)
