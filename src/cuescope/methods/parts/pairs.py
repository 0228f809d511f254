"""Masked squares of images, grouped by the part that they hide, and the distances of their pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import draws, stats
from cuescope.data.ops.occlude import Rectangle

DEPTHS = ("low", "high")
UNITS = ("all", "changed")
SHUFFLED = "shuffled"

Distances = Mapping[tuple[str, str, str], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Group:
    """The images of one class, or of all, that show the same part, and the distances of their pairs.

    `members` are their numbers among all images. `distances` are (n, n), NaN where there is none, for each depth, of
    all units or of those that change in one of the two, between images with the "part" masked in both; a "random"
    square masked in both (a mean over draws); the part in one and an "other" part in the other (a mean over those); and
    the part in one and its "shuffled" pixels in the other.
    """

    label: int
    part: str
    ids: list[str]
    members: NDArray[np.int64]
    rows: pl.DataFrame
    distances: Distances

    def of(self, depth: str, kind: str, units: str = "all") -> NDArray[Any]:
        return self.distances[depth, kind, units]

    def less(self, depth: str, rival: str, units: str = "all") -> NDArray[Any]:
        """The distances of the part less those of a rival."""
        return self.of(depth, "part", units) - self.of(depth, rival, units)

    @property
    def rank(self) -> tuple[float, int, str]:
        """What groups are sorted by: how far the part is below random squares at the high layer."""
        return float(between(self.less("high", "random")).mean()), self.label, self.part

    def name(self, classes: Sequence[str]) -> str:
        return self.part if self.label < 0 else f"{classes[self.label]}, {self.part}"

    def place(self, name: str, kind: str) -> Rectangle:
        """The first square of a kind in an image."""
        chosen = self.rows.filter(pl.col("id") == name, pl.col("kind") == kind, pl.col("draw") == 0)
        return Rectangle(*(int(chosen[side][0]) for side in Rectangle._fields))


def between(values: NDArray[Any]) -> NDArray[Any]:
    """(n, n) of pairs as each pair once."""
    return values[np.triu_indices(len(values), 1)]


def groups_of(rows: pl.DataFrame, across_classes: bool) -> tuple[list[Group], list[int]]:
    """The groups of two images and more, and the class of each image.

    Groups whose part is farthest below random squares come first. Across classes all images are of one class, -1, as
    those without a label are.
    """
    if across_classes:
        rows = rows.with_columns(label=pl.lit(-1, pl.Int32))
    rows = rows.sort("id", "part", "kind", "draw", "depth")
    images = rows.unique("id", keep="first", maintain_order=True)
    number = {name: i for i, name in enumerate(images["id"])}
    groups = [group for frame in rows.partition_by("label", maintain_order=True) for group in _of_class(frame, number)]
    return sorted(groups, key=lambda group: group.rank), images["label"].to_list()


def _of_class(rows: pl.DataFrame, number: Mapping[str, int]) -> Iterator[Group]:
    shown = rows.filter(pl.col("kind").is_in(["part", SHUFFLED]))
    masked = {depth: _Masked.of(shown.filter(depth=depth)) for depth in DEPTHS}
    frames = {str(frame["part"][0]): frame for frame in rows.partition_by("part", maintain_order=True)}
    ids = {part: frame["id"].unique(maintain_order=True).to_list() for part, frame in frames.items()}
    for part, frame in frames.items():
        if len(ids[part]) < 2:
            continue
        found: dict[tuple[str, str, str], NDArray[Any]] = {}
        for depth in DEPTHS:
            draws = frame.filter(kind="random", depth=depth).partition_by("draw", maintain_order=True)
            random = [_distances(one) for one in draws]
            for k, units in enumerate(UNITS):
                found[depth, "part", units] = masked[depth].distances(ids[part], part, part)[k]
                found[depth, "random", units] = np.mean([both[k] for both in random], 0)
                others = [masked[depth].distances(ids[part], part, other)[k] for other in frames if other != part]
                found[depth, "other", units] = _mean_known(others, len(ids[part]))
                found[depth, SHUFFLED, units] = masked[depth].distances(ids[part], part, part, SHUFFLED)[k]
        members = np.array([number[name] for name in ids[part]])
        yield Group(int(frame["label"][0]), part, ids[part], members, frame, found)


@dataclass(frozen=True, eq=False)
class _Masked:
    """The distances of all masked parts of a class, by image, part and kind."""

    index: Mapping[tuple[str, str, str], int]
    values: tuple[NDArray[Any], NDArray[Any]]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> _Masked:
        keys = rows.select("id", "part", "kind").iter_rows()
        return cls({key: i for i, key in enumerate(keys)}, _distances(rows))

    def distances(
        self, ids: Sequence[str], part: str, other: str, kind: str = "part"
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of image i with a part and image j with another masked, or the other way round: means of the two."""
        # Of an image that does not show a part, -1: the last row and column below, which are NaN.
        which = ((part, "part"), (other, kind))
        a, b = ([self.index.get((name, *one), -1) for name in ids] for one in which)
        padded = [np.pad(values, (0, 1), constant_values=np.nan) for values in self.values]
        first, second = ((values[np.ix_(a, b)] + values[np.ix_(b, a)]) / 2 for values in padded)
        return first, second


def _distances(rows: pl.DataFrame) -> tuple[NDArray[Any], NDArray[Any]]:
    fallen, risen = (np.frombuffer(b"".join(rows[c]), np.uint8).reshape(rows.height, -1) for c in ("fallen", "risen"))
    return sign_distances(fallen, risen, int(rows["units"][0]))


def sign_distances(
    fallen: NDArray[np.uint8], risen: NDArray[np.uint8], units: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The share of units whose sign (fallen, risen or neither) differs, for all pairs of vectors: two (n, n) arrays.

    `fallen` and `risen` are (n, bytes), a bit a unit, as np.packbits gives them. The first array is of all `units`, the
    second of those that are not the same for lack of any change: NaN where neither vector has one.

    >>> fallen, risen = (np.packbits(bits, axis=1) for bits in ([[1, 0, 0, 0], [0] * 4], [[0, 0, 0, 1], [0, 0, 0, 1]]))
    >>> of_all, of_changed = sign_distances(fallen, risen, units=4)
    >>> float(of_all[0, 1]), float(of_changed[0, 1])
    (0.25, 0.5)
    """
    n = len(fallen)
    # Words of 64 bits: an eighth of the counts to add up.
    down, up = (np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64) for bits in (fallen, risen))
    changed = down | up
    differing, either = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        unlike = np.bitwise_count((down[i:] ^ down[i]) | (up[i:] ^ up[i]))
        differing[i, i:] = differing[i:, i] = unlike.sum(1, dtype=np.int64)
        either[i, i:] = either[i:, i] = np.bitwise_count(changed[i:] | changed[i]).sum(1, dtype=np.int64)
    return differing / units, np.divide(differing, either, out=np.full((n, n), np.nan), where=either > 0)


def _mean_known(values: Sequence[NDArray[Any]], n: int) -> NDArray[Any]:
    """The mean of those that are known, pair by pair; NaN where none is."""
    total, count = np.zeros((n, n)), np.zeros((n, n))
    for one in values:
        total, count = total + np.nan_to_num(one), count + np.isfinite(one)
    return np.divide(total, count, out=np.full((n, n), np.nan), where=count > 0)


def mean(
    groups: Sequence[tuple[Group, NDArray[Any]]], drawn: draws.Draws
) -> tuple[float | None, tuple[float, float] | None, int]:
    """The mean over groups of the values of their pairs, its interval over images, and how many images have a pair."""
    value, interval, _ = stats.pair_mean([(group.members, values) for group, values in groups], drawn)
    off = [np.isfinite(values) & ~np.eye(len(values), dtype=bool) for _, values in groups]
    images = {int(m) for (group, _), known in zip(groups, off, strict=True) for m in group.members[known.any(1)]}
    return value, interval, len(images)
