"""Random resized crops as training takes them, and how far they overlap with boxes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cuescope.data.images import Box

TRIES = 10
"""So often torchvision draws a crop anew that does not fit before it takes one from the middle."""


def random_resized_crops(
    height: int,
    width: int,
    count: int,
    random: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> NDArray[np.int64]:
    """Which parts of an image of this size does torchvision's RandomResizedCrop take? (count, 4): top, left, height,
    width in pixels.

    `scale` bounds the crop's share of the area, `ratio` its width by its height. The rule is that of
    `RandomResizedCrop.get_params`, for many crops at once and from a generator of one's own.
    """
    area = height * width * random.uniform(*scale, (count, TRIES))
    shape = np.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1]), (count, TRIES)))
    high, wide = (np.rint(np.sqrt(sides)).astype(np.int64) for sides in (area / shape, area * shape))
    fits = (high > 0) & (high <= height) & (wide > 0) & (wide <= width)
    first = fits.argmax(1)[:, None]
    high, wide = (np.take_along_axis(sides, first, 1)[:, 0] for sides in (high, wide))
    rooms = height - high + 1, width - wide + 1
    top, left = (np.floor(random.random(count) * room).astype(np.int64) for room in rooms)
    crops = np.stack([top, left, high, wide], 1)
    crops[~fits.any(1)] = _from_the_middle(height, width, ratio)
    return crops


def random_resized_crop(
    height: int,
    width: int,
    random: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """The crop of `random_resized_crops` where one is drawn, to the pixel, in a fraction of the time.

    >>> random_resized_crop(30, 40, np.random.default_rng(0))
    (0, 1, 26, 31)
    """
    areas = random.uniform(*scale, TRIES).tolist()
    shapes = np.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1]), TRIES)).tolist()
    down, right = random.random(), random.random()
    for share, shape in zip(areas, shapes, strict=True):
        area = height * width * share
        high, wide = round(math.sqrt(area / shape)), round(math.sqrt(area * shape))
        if 0 < high <= height and 0 < wide <= width:
            return int(down * (height - high + 1)), int(right * (width - wide + 1)), high, wide
    return _from_the_middle(height, width, ratio)


def _from_the_middle(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """The largest crop that the ratio allows."""
    high, wide = height, width
    if width / height < min(ratio):
        high = round(width / min(ratio))
    elif width / height > max(ratio):
        wide = round(height * max(ratio))
    return (height - high) // 2, (width - wide) // 2, high, wide


class Overlap(NamedTuple):
    """Of crops (count,) with boxes: `covered` is the area in px of the boxes' union that lies in the crop, `best` the
    largest intersection over union with one of the boxes, `union` the one with the union of the boxes.
    """

    covered: NDArray[np.float64]
    best: NDArray[np.float64]
    union: NDArray[np.float64]


def overlap(crops: NDArray[Any], boxes: Sequence[Box]) -> Overlap:
    """How much do crops (count, 4) - top, left, height, width in pixels - show of one or more boxes?

    >>> half, none = overlap(np.array([[0, 0, 10, 10], [20, 20, 5, 5]]), [Box(0, 0, 10, 5)]).best
    >>> float(half), float(none)
    (0.5, 0.0)
    """
    places = np.array([box[:4] for box in boxes], dtype=np.float64)
    sizes = crops[:, 2].astype(np.float64) * crops[:, 3]
    areas = (places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])
    each = _along(crops[:, 0], crops[:, 2], places[:, 1], places[:, 3])
    each *= _along(crops[:, 1], crops[:, 3], places[:, 0], places[:, 2])
    best = (each / (sizes[:, None] + areas - each)).max(1)
    # The edges of all boxes cut the image into cells, each of them in the union or not.
    x, y = np.unique(places[:, [0, 2]]), np.unique(places[:, [1, 3]])
    rows = (places[:, None, 1] <= y[:-1]) & (places[:, None, 3] >= y[1:])
    columns = (places[:, None, 0] <= x[:-1]) & (places[:, None, 2] >= x[1:])
    within = (rows[:, :, None] & columns[:, None, :]).any(0).astype(np.float64)
    high, wide = _along(crops[:, 0], crops[:, 2], y[:-1], y[1:]), _along(crops[:, 1], crops[:, 3], x[:-1], x[1:])
    covered = ((high @ within) * wide).sum(1)
    whole = float(np.diff(y) @ within @ np.diff(x))
    return Overlap(covered, best, covered / (sizes + whole - covered))


def _along(start: NDArray[Any], length: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    """How long intervals (n,) and other intervals (m,) overlap along an axis: (n, m)."""
    stop = np.minimum((start + length)[:, None], high)
    return (stop - np.maximum(start[:, None], low)).clip(0).astype(np.float64)
