"""Draws whose truth is known, for every kind of interval: how often do the intervals hold it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from cuescope.core import draws, stats
from cuescope.core.error_consistency import kappa_intervals
from cuescope.core.intervals import Interval, over_classes

Draw = Callable[[Generator, int], Interval | None]


@dataclass(frozen=True)
class Kind:
    """A kind of interval on data of one shape."""

    name: str
    shape: str
    draw: Draw
    truth: float
    note: str = ""
    """Why it holds the truth more often than it says, where it does."""

    def held(self, n: int, times: int, seed: int = 0) -> tuple[float, float]:
        """How often the interval of n units holds the truth, where there is one, and how often there is one."""
        random = np.random.default_rng([seed, n])
        found = [interval for _ in range(times) if (interval := self.draw(random, n)) is not None]
        inside = sum(low - 1e-12 <= self.truth <= high + 1e-12 for low, high in found)
        return inside / max(1, len(found)), len(found) / times


DISCRETE, RARE = "so few hits are possible that it jumps", "what was not seen is reckoned with"
ONE_MORE = "one more image is reckoned with either way"
LOST = (1, 2, 5)


def _share(p: float) -> Draw:
    return lambda random, n: stats.share("", random.random(n) < p).interval


def _mean(of: Callable[[Generator, int], np.ndarray], unit: str = "") -> Draw:
    return lambda random, n: stats.mean("", of(random, n), unit).interval  # type: ignore[arg-type]


def _rare(random: Generator, n: int) -> np.ndarray:
    return (random.random(n) < 0.1) * random.random(n) * 0.25


def _ends(random: Generator, n: int) -> np.ndarray:
    kind = random.random(n)
    return np.where(kind < 0.4, 0.0, np.where(kind < 0.8, 1.0, random.random(n)))


def _ratio(random: Generator, n: int) -> Interval | None:
    below = random.integers(1, 9, n)
    return stats.ratio("", random.binomial(below, 0.3), below).interval


def _flips(more: float, less: float) -> Draw:
    def draw(random: Generator, n: int) -> Interval | None:
        kind = random.random(n)
        a, b = (kind < more) | (kind > 0.7), (kind > 0.7) | ((kind >= more) & (kind < more + less))
        return stats.difference("", a, b).interval

    return draw


def _kept(lost: float, gained: float) -> Draw:
    """0.8 are right before; 0.1 counts as chance."""

    def draw(random: Generator, n: int) -> Interval | None:
        kind = random.random(n)
        return stats.kept("", (kind < 0.8 - lost) | (kind > 1 - gained), kind < 0.8, (0.1, 0.1)).interval

    return draw


def _numbers(random: Generator, n: int) -> Interval | None:
    common = random.normal(0, 3, n)
    return stats.difference("", common + random.normal(0.3, 1, n), common).interval


def _apart(random: Generator, n: int) -> Interval | None:
    a, b = stats.share("", random.random(n) < 0.3), stats.share("", random.random(n) < 0.5)
    return stats.independent_difference(a.value or 0.0, a.interval, b.value or 0.0, b.interval)


def _together(rho: float) -> Draw:
    def draw(random: Generator, n: int) -> Interval | None:
        a = random.normal(size=n)
        return stats.correlation("", a, rho * a + (1 - rho**2) ** 0.5 * random.normal(size=n)).interval

    return draw


def _pairs(random: Generator, n: int) -> Interval | None:
    x = random.random(n)
    return stats.pair_mean([(np.arange(n), np.abs(x[:, None] - x))], draws.Draws([0] * n))[1]


def _kappa(both: float, one: float) -> Draw:
    def draw(random: Generator, n: int) -> Interval | None:
        kind = random.choice(4, n, p=[both, one, one, 1 - both - 2 * one])
        return kappa_intervals((kind < 2).tolist(), (kind % 2 == 0).tolist())[0]

    return draw


def _kappa_of(both: float, one: float) -> float:
    p = both + one
    chance = p**2 + (1 - p) ** 2
    return (1 - 2 * one - chance) / (1 - chance)


def _several(random: Generator, n: int) -> Interval | None:
    hits = random.random((n, 8)) < random.beta(1, 4, n)[:, None]
    return stats.share("", hits.ravel(), clusters=[np.repeat(np.arange(n), 8)]).interval


def _crossed(objects: float, textures: float) -> Draw:
    """n objects with eight of 0.3 n textures each, at least eight; what they share varies as these say."""

    def draw(random: Generator, n: int) -> Interval | None:
        many = max(8, round(0.3 * n))
        a, b = random.normal(0, objects**0.5, n), random.normal(0, textures**0.5, many)
        texture = np.argsort(random.random((n, many)), 1)[:, :8]
        right = a[:, None] + b[texture] + random.normal(size=(n, 8)) > 0
        return stats.share("", right.ravel(), clusters=[np.repeat(np.arange(n), 8), texture.ravel()]).interval

    return draw


def _classes(random: Generator, n: int) -> Interval | None:
    """Five images a class, whose rates are the same each time."""
    rates = np.linspace(0.5, 1, n)
    return over_classes(random.binomial(5, rates).astype(float), np.full(n, 5.0))[0]


KINDS = (
    Kind("share", "p = .02", _share(0.02), 0.02, DISCRETE),
    Kind("share", "p = .1", _share(0.1), 0.1, DISCRETE),
    Kind("share", "p = .5", _share(0.5), 0.5, DISCRETE),
    Kind("mean of numbers", "normal", _mean(lambda r, n: r.normal(3, 1, n)), 3),
    Kind("mean of numbers", "exponential", _mean(lambda r, n: r.exponential(1, n)), 1),
    Kind(
        "mean of numbers", "two values, 7 : 3", _mean(lambda r, n: r.choice([3.0, 7.0], n, p=[0.7, 0.3])), 4.2, DISCRETE
    ),
    Kind("mean of shares", "uniform", _mean(lambda r, n: r.random(n), "share"), 0.5),
    Kind("mean of shares", "0, and a tenth up to .25", _mean(_rare, "share"), 0.0125, RARE),
    Kind(
        "mean of shares",
        "of 8 pairs an image, p = .02",
        _mean(lambda r, n: r.binomial(8, 0.02, n) / 8, "share"),
        0.02,
        RARE,
    ),
    Kind("mean of shares", "of 8 pairs an image, p = .3", _mean(lambda r, n: r.binomial(8, 0.3, n) / 8, "share"), 0.3),
    Kind("mean of shares", "all .3", _mean(lambda r, n: np.full(n, 0.3), "share"), 0.3, "nothing varies"),
    Kind("mean of shares", "0 and 1, and a fifth between", _mean(_ends, "share"), 0.5),
    Kind(
        "mean of shares",
        "exponential, about .02",
        _mean(lambda r, n: np.minimum(r.exponential(0.02, n), 1), "share"),
        0.02,
        RARE,
    ),
    Kind("ratio", "of 1 to 8 pairs an image, p = .3", _ratio, 0.3),
    Kind("paired difference", "0 and 1, .2 against .1 differ", _flips(0.2, 0.1), 0.1, ONE_MORE),
    Kind("paired difference", "0 and 1, .03 against .03 differ", _flips(0.03, 0.03), 0.0, ONE_MORE),
    *(
        Kind("paired difference", f"0 and 1, .0{p} lost, none gained", _flips(0, p / 100), -p / 100, ONE_MORE)
        for p in LOST
    ),
    *(Kind("share kept", f"of .8, .0{p} lost, none gained", _kept(p / 100, 0), 1 - p / 70, ONE_MORE) for p in LOST),
    Kind("share kept", "of .8, .02 lost and .02 gained", _kept(0.02, 0.02), 1, ONE_MORE),
    Kind("share kept", "of .8, .3 lost and .05 gained", _kept(0.3, 0.05), 1 - 0.25 / 0.7, ONE_MORE),
    Kind("paired difference", "numbers", _numbers, 0.3),
    Kind("independent difference", "of shares .3 and .5", _apart, -0.2),
    Kind("correlation", "0, normal", _together(0.0), 0.0),
    Kind("correlation", ".5, normal", _together(0.5), 0.5),
    Kind("correlation", ".95, normal", _together(0.95), 0.95),
    Kind("mean over pairs", "distances on a line", _pairs, 1 / 3),
    Kind("kappa", "0, half right", _kappa(0.25, 0.25), 0.0),
    Kind("kappa", ".5, 70 % right", _kappa(0.595, 0.105), _kappa_of(0.595, 0.105)),
    Kind("kappa", ".9, 90 % right", _kappa(0.891, 0.009), _kappa_of(0.891, 0.009)),
    Kind("several pairs of an image", "8 each, rates of Beta(1, 4)", _several, 0.2),
    Kind("objects x textures", "both vary", _crossed(0.3, 0.3), 0.5),
    Kind("objects x textures", "textures vary more", _crossed(0.1, 0.6), 0.5),
    Kind("objects x textures", "neither varies", _crossed(0.0, 0.0), 0.5, "a variance is not below its parts"),
    Kind("mean over classes", "5 images each, rates .5 to 1", _classes, 0.75),
)
