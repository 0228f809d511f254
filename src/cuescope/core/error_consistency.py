"""Error consistency of two observers, and of many with many, on resamples of the images they were asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core.draws import RESAMPLES, Draws, crossed, interval_of
from cuescope.core.intervals import UNITS, Clusters

Array = NDArray[Any]

ANSWERS = {
    "id": pl.String,
    "shape": pl.String,
    "decision": pl.String,
    "right": pl.Boolean,
    "who": pl.List(pl.String),
    "human": pl.List(pl.Boolean),
    "answer": pl.List(pl.String),
}
"""A row an image: the shape, the classifier's decision and whether it is right (null where nobody else was asked), and
the lists of who else was asked, whether that is a person, and the answer (null for none in time)."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The images (n) that somebody else (s of them, people first) was asked about."""

    rows: pl.DataFrame
    right: Array
    """(n,) whether the classifier is right, as all others 1 or 0."""
    who: tuple[str, ...]
    human: Array
    """(s,) bool"""
    others: Array
    """(n, s) whether the others are right, NaN where not asked."""
    same: Array
    """(n, s) whether their answer is the classifier's decision."""

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Asked:
        asked = rows.drop_nulls("right")
        long = asked.with_row_index("at").explode("who", "human", "answer")
        subjects = long.select("who", "human").unique().sort("human", "who", descending=[True, False])
        place = {who: k for k, who in enumerate(subjects["who"])}
        others, same = (np.full((asked.height, len(place)), np.nan) for _ in range(2))
        for at, who, answer, shape, decision in long.select("at", "who", "answer", "shape", "decision").iter_rows():
            others[at, place[who]], same[at, place[who]] = answer == shape, answer == decision
        right, human = asked["right"].to_numpy().astype(float), subjects["human"].to_numpy().astype(bool)
        return cls(asked, right, tuple(place), human, others, same)


@dataclass(frozen=True, eq=False)
class Kappas:
    """Kappas on the images as they are, first, and on each resample of them."""

    table: Array
    """(1 + r, classifiers, s) with everybody else."""
    between: Array
    """(1 + r, classifiers, classifiers) of the classifiers with each other."""
    people: Array
    """(1 + r, s, people) of everybody else with people; NaN of a person with that same person."""

    @classmethod
    def of(cls, asked: Asked, rights: Sequence[Array], seed: int, resamples: int, clusters: Clusters = ()) -> Kappas:
        """With `clusters` what images share is resampled, not the images."""
        n, own, people = len(asked.right), np.stack(rights, 1), asked.others[:, asked.human]
        pairs = (own, asked.others), (own, own), (asked.others, people)
        drawn = crossed(clusters, seed, resamples) if len(clusters) else Draws(np.zeros(n), seed, resamples)
        blocks = np.ones((1, n)), *drawn
        tables = [[kappa_table(*pair, block) for pair in pairs] for block in blocks]
        found = cls(*(np.concatenate(parts) for parts in zip(*tables, strict=True)))
        for k in range(people.shape[1]):  # People stand first, in the same order.
            found.people[:, k, k] = np.nan
        return found


def kappa(a_correct: Sequence[bool], b_correct: Sequence[bool]) -> float | None:
    """Error consistency of two observers on the same images (Geirhos et al. 2020, eq. 1-3).

    None where either is right on all or on none of the images: chance alone then fixes the agreement.

    >>> kappa([True, True, False, False], [True, True, False, False])
    1.0
    """
    a, b = np.asarray(a_correct, bool), np.asarray(b_correct, bool)
    if not len(a) or a.mean() in (0, 1) or b.mean() in (0, 1):
        return None
    expected = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float(((a == b).mean() - expected) / (1 - expected))


def kappa_intervals(
    a_correct: Sequence[bool], b_correct: Sequence[bool], seed: int = 0
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Intervals of `kappa` and of the agreement that chance alone would give.

    From the posterior of the four shares of images (both right, one, the other, none), half an image added to each
    (Jeffreys' prior): so the same errors on 5 of 200 images are not kappa 1 for certain. That of kappa is None where
    either is right or wrong on fewer than five images, the other under five images.
    """
    a, b = np.asarray(a_correct, bool), np.asarray(b_correct, bool)
    if len(a) < UNITS:
        return None, None
    cells = np.array([(a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum()])
    both, first, second, neither = np.random.default_rng(seed).dirichlet(cells + 0.5, RESAMPLES).T
    p, q = both + first, both + second
    expected = p * q + (1 - p) * (1 - q)
    enough = min(int(side.sum()) for side in (a, ~a, b, ~b)) >= UNITS
    return interval_of((both + neither - expected) / (1 - expected)) if enough else None, interval_of(expected)


def kappa_table(a: Array, b: Array, drawn: Array) -> Array:
    """Error consistency of each observer of `a` with each of `b`, for resamples of the images: (r, s, t).

    `a` (n, s) and `b` (n, t) are 1 where an observer is right, 0 where not, NaN where not asked: a pair counts the
    images that both were asked about. `drawn` (r, n) says how often each image is drawn: a block of `Draws`, or ones
    for the data themselves. NaN where either of a pair is right on all or on none of its images, as in `kappa`.

    >>> right = np.array([[1.0], [1.0], [0.0], [0.0]])
    >>> kappa_table(right, 1 - right, np.ones((1, 4)))[0, 0, 0].item()
    -1.0
    """
    known, right = ~np.isnan(b), np.nan_to_num(b)
    table = np.full((len(drawn), a.shape[1], b.shape[1]), np.nan)
    for k in range(a.shape[1]):
        asked, own = ~np.isnan(a[:, k])[:, None], np.nan_to_num(a[:, k])[:, None]
        n = drawn @ (asked & known).astype(float)
        p, q, both = drawn @ (own * known), drawn @ (right * asked), drawn @ (own * right)
        fits = (p > 0) & (p < n) & (q > 0) & (q < n)
        n = np.where(fits, n, 1)
        expected = (p * q + (n - p) * (n - q)) / n**2
        observed = (n - p - q + 2 * both) / n
        table[:, k] = np.where(fits, (observed - expected) / np.where(fits, 1 - expected, 1), np.nan)
    return table


def mean_over(table: Array) -> Array:
    """(1 + r, ...) to the mean over all pairs that have a kappa on the images as they are; NaN where one has none."""
    flat = table.reshape(len(table), -1)
    flat = flat[:, np.isfinite(flat[0])]
    return flat.mean(1) if flat.shape[1] else np.full(len(table), np.nan)
