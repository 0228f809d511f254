"""Is a label map right? Its positions beside the boxes of objects, its classes beside all the labels that are right."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import stats
from cuescope.core.chance import common_by_chance
from cuescope.core.class_names import ClassNames
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import Measure
from cuescope.data.images import Sample
from cuescope.data.preprocessing import Preprocessing, locate

OUTSIDE, UNKNOWN = -1, -2
"""Of a position in no box, and of one in boxes of several classes or of one that the classifier has not."""

Array = NDArray[Any]


def class_indices(space: ClassSpace) -> Callable[[str], int]:
    """The class of a name that a box may have: its key, or its name where only one class has it; else UNKNOWN."""
    keys, names = ClassNames(space.keys), ClassNames(space.names)

    @functools.cache
    def index(name: str) -> int:
        return next((i for i in (keys.find(name), names.find(name)) if i >= 0), UNKNOWN)

    return index


def classes_of_positions(
    sample: Sample, indices: Callable[[str], int], how: Preprocessing, shape: tuple[int, int]
) -> list[int] | None:
    """The class of the box that each position of a map (h, w) over the network's input lies in, row by row.

    None for an image without boxes.
    """
    if not sample.boxes:
        return None
    found = np.full(shape, OUTSIDE)
    y, x = ((np.arange(n) + 0.5) / n * side for n, side in zip(shape, how.size, strict=True))
    for box in sample.boxes:
        at = locate(box, (sample.pixels.shape[1], sample.pixels.shape[2]), how, sample.framing)
        within = ((at.y0 <= y) & (y < at.y1))[:, None] & (at.x0 <= x) & (x < at.x1)
        index = indices(box.name)
        found[within] = np.where((found[within] == OUTSIDE) | (found[within] == index), index, UNKNOWN)
    return found.flatten().tolist()


def score_of_positions(top: Sequence[Sequence[int]], boxes: Sequence[Sequence[int]]) -> tuple[Measure, ...]:
    """How often is the class of a position that of the box it lies in, and how often outside of the boxes?

    `top` has the class of each position of each image, `boxes` what `classes_of_positions` gives. Chance is that of the
    same maps laid over other images' boxes. The third measure is the mean over images of the difference.
    """
    inside, hits, outside, stray, images = [], [], [], [], []
    for said, there in zip(map(np.asarray, top), map(np.asarray, boxes), strict=True):
        within, beside = there >= 0, there == OUTSIDE
        inside.append(int(within.sum()))
        hits.append(int((said == there)[within].sum()))
        outside.append(int(beside.sum()))
        stray.append(int(np.isin(said[beside], there[within]).sum()))
        images.append((said[within], there[within]))
    pairs = [(h / n, s / m) for h, n, s, m in zip(hits, inside, stray, outside, strict=True) if n and m]
    why = "no position lies in a box of one class" if boxes else "no image has boxes"
    chance = _chance(images)
    title = "positions in boxes that have the box's class"
    return (
        stats.ratio("in_boxes", hits, inside, title=title, why=why, chance=chance, headline=bool(boxes)),
        stats.ratio("beside_boxes", stray, outside, title="positions beside boxes that have such a class", why=why),
        stats.mean("where", [a - b for a, b in pairs], "difference", title="in boxes less beside, by image", why=why),
    )


def _chance(images: Sequence[tuple[Array, Array]]) -> float | None:
    """How often would the classes of positions be those of another image's boxes?"""
    images = [one for one in images if len(one[0])]
    if len(images) < 2:
        return None
    size = int(max(max(said.max(), there.max()) for said, there in images)) + 1
    counts = np.array([np.bincount(said, minlength=size) for said, _ in images], float)
    shares = np.array([np.bincount(there, minlength=size) / len(there) for _, there in images])
    others = counts.sum(0) @ shares.sum(0) - (counts * shares).sum()
    return float(others / counts.sum() / (len(images) - 1))


def score_of_labels(said: pl.Series, right: pl.Series) -> tuple[Measure, Measure]:
    """Which share of the classes of maps are right labels (precision), and of the right labels in the maps (recall)?

    Both are lists of classes, one an image. Chance is that of the same classes for other images.
    """
    hits = said.list.set_intersection(right).list.len()
    common, why = common_by_chance(said, right), "no image has all its right labels known"
    measures = []
    for name, of, title in (
        ("precision", said, "classes of its maps that are right labels"),
        ("recall", right, "right labels that are in its maps"),
    ):
        mean = float(of.list.len().mean() or 0) if len(of) else 0.0  # type: ignore[arg-type]
        chance = common / mean if common is not None and mean else None
        reason = why if not len(of) else "its maps have no class"
        measures.append(stats.ratio(name, hits, of.list.len(), title=title, why=reason, chance=chance))
    return measures[0], measures[1]
