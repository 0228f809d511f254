"""The images that excite each unit most, without ties, and what to expect of images drawn at random."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cuescope.core import stats
from cuescope.core.findings import Measure

TIE = 1e-5
"""Activations that differ by less than this share of themselves are the same: only rounded otherwise."""
UNIT = ("order", "channel")
"""What says which unit a row is of; rows of order below 0 are of images."""


def constant(images: int) -> pl.Expr:
    """Whether a unit is as strong in all of so many images, in the first row of each unit."""
    value, lowest = pl.col("value"), pl.col("lowest")
    return (value == 0) & (lowest == 0) | (value - lowest <= TIE * value.abs()) & (images > 1)


def strongest_of(rows: pl.DataFrame, best: int) -> pl.DataFrame:
    """Of what `reduce` kept, the images that excite a unit most, the strongest first: no 0, and no tie for a place."""
    images = rows.filter(pl.col("order") < 0).height
    units = rows.filter(pl.col("order") >= 0).with_columns(rank=pl.int_range(pl.len()).over(UNIT))
    next_best = pl.when(rank=best).then("value").max().over(UNIT)
    tied = (pl.col("value") - next_best <= TIE * next_best.abs()).fill_null(value=False)
    dead = constant(images).first().over(UNIT)
    return units.filter(~dead & (pl.col("value") != 0) & (pl.col("rank") < best) & ~tied).select(rows.columns)


class Chance:
    """What to expect of images drawn at random from all that were seen, whose classes these are."""

    def __init__(self, classes: np.ndarray[Any, Any], seed: int) -> None:
        self.counts, self.seed = np.unique(classes, return_counts=True)[1], seed
        self.repeats = bool((self.counts > 1).any())
        self.known: dict[int, tuple[float, float]] = {}

    def of(self, sizes: Sequence[int]) -> tuple[float, float]:
        """Of units with so many images: the mean share of the commonest class, and the share of those of one class."""
        for size in {*sizes} - {*self.known}:
            self.known[size] = self._of(size)
        purity, one_class = np.mean([self.known[size] for size in sizes], 0)
        return float(purity), float(one_class)

    def _of(self, size: int, draws: int = 400) -> tuple[float, float]:
        drawn = np.random.default_rng(self.seed).multivariate_hypergeometric(self.counts, size, draws)
        alike = sum(math.comb(int(count), size) for count in self.counts) / math.comb(int(self.counts.sum()), size)
        return float(drawn.max(1).mean() / size), alike


class Layer(NamedTuple):
    """What is measured of the units of one layer."""

    purity: Measure
    one_class: Measure
    dead: Measure


def measures_of(strongest: pl.DataFrame, units: pl.DataFrame, chance: Chance, where: str) -> Layer:
    """Of one layer: the mean share of a unit's commonest class, units of one class, dead units."""
    size, same = pl.len().over(UNIT), pl.len().over(*UNIT, "class")
    known = strongest.with_columns(size=size, same=same).filter(pl.col("size") > 1)
    most = pl.col("same").max().over(UNIT)
    commonest = pl.when(pl.col("same") == most).then("class").min().over(UNIT)
    known, why = known.with_columns(hit=pl.col("class") == commonest), ""
    if not known.height:
        why = "no unit has two images that excite it" if units.height else "no image was seen"
    elif not chance.repeats:
        known, why = known.clear(), "no class has two images"
    # Each unit counts alike, whatever the number of its images.
    by_image = known.group_by("id", maintain_order=True).agg(
        hits=(pl.col("hit") / pl.col("size")).sum(), all=(1 / pl.col("size")).sum()
    )
    by_unit = known.group_by(UNIT, maintain_order=True).agg(pl.first("size"), pure=pl.col("hit").all())
    expected = chance.of(by_unit["size"].to_list()) if by_unit.height else (None, None)
    title = f"strongest images of a unit {where} that are of its commonest class"
    more = {"title": title, "chance": expected[0], "headline": True}
    purity = stats.ratio("purity", by_image["hits"], by_image["all"], why=why, **more)
    title = f"units {where} whose strongest images are all of one class"
    one_class = _counted("one_class", by_unit["pure"], title, why, chance=expected[1])
    dead = _counted(
        "dead", units["dead"], f"units {where} that no image excites more than another", "no image was seen"
    )
    return Layer(purity, one_class, dead)


def _counted(name: str, which: pl.Series, title: str, why: str, **more: Any) -> Measure:
    """A share of a network's units, all of which are counted: they have their images in common, so no interval."""
    n, count = len(which), int(which.sum())
    if not n:
        return Measure(name, None, "share", title=title, why=why)
    none = "all units are counted, and their images are the same"
    return Measure(name, count / n, "share", n, None, none, title, count, **more)
