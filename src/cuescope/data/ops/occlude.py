"""A square of one color slid over an image: where it stands, and the image with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.data.images import Box

ROUNDING = 1e-6


class Rectangle(NamedTuple):
    """Pixels of an image: rows top to bottom and columns left to right, far edges excluded."""

    top: int
    left: int
    bottom: int
    right: int


def pixels_of(box: Box, height: int, width: int, least: float = 0.5) -> Rectangle | None:
    """The pixels that a box touches in an image; None where less than `least` of its area lies in the image.

    >>> pixels_of(Box(2.5, -1.0, 4.0, 3.0), 8, 8), pixels_of(Box(2.5, -5.0, 4.0, 3.0), 8, 8)
    (Rectangle(top=0, left=2, bottom=3, right=4), None)
    """
    x0, y0, x1, y1 = max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, float(width)), min(box.y1, float(height))
    whole = (box.x1 - box.x0) * (box.y1 - box.y0)
    if x0 >= x1 or y0 >= y1 or (x1 - x0) * (y1 - y0) < least * whole:
        return None
    # What is a whole number but for rounding stays that number.
    (top, left), (bottom, right) = (y0 + ROUNDING, x0 + ROUNDING), (y1 - ROUNDING, x1 - ROUNDING)
    return Rectangle(math.floor(top), math.floor(left), math.ceil(bottom), math.ceil(right))


@dataclass(frozen=True)
class Grid:
    """The places of a sliding square, row by row: tops and lefts in pixels, and its height and width."""

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    @property
    def rectangles(self) -> list[Rectangle]:
        """One for each place, row by row."""
        return [Rectangle(t, x, t + self.height, x + self.width) for t in self.tops for x in self.lefts]

    def center(self, place: int) -> tuple[int, int]:
        """Row and column of the pixel in the middle of the square at a place."""
        row, column = divmod(place, len(self.lefts))
        return self.tops[row] + self.height // 2, self.lefts[column] + self.width // 2

    def spread(self, values: Sequence[Any], height: int, width: int) -> list[list[Any]]:
        """One value a place, as a map over the whole image of height x width px: each cell takes the nearest square's.

        Square centers keep off the border by half a square, so a map of the places alone would not lie on the image.

        >>> Grid((0, 2), (0, 2), 2, 2).spread([1, 2, 3, 4], 4, 4)
        [[1, 2], [3, 4]]
        """
        rows, columns = _nearest(self.tops, self.height, height), _nearest(self.lefts, self.width, width)
        table = np.asarray(values).reshape(len(self.tops), len(self.lefts))
        return table[np.ix_(rows, columns)].tolist()


@dataclass(frozen=True)
class Occlude:
    """Cover a square of an image with one color, at each place of a grid.

    Places are `stride_px` apart from the top left corner on; where that does not meet the far border, one more
    stands flush with it, so that all of the image gets covered and all squares are whole. `color` is red, green,
    blue in [0, 1]. Raises ValueError for a square or a stride below one pixel.

    >>> Occlude(4, 3, (0.5, 0.5, 0.5)).grid(12, 4)
    Grid(tops=(0, 3, 6, 8), lefts=(0,), height=4, width=4)
    """

    size_px: int
    stride_px: int
    color: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.size_px < 1 or self.stride_px < 1:
            raise ValueError("size_px and stride_px must be at least 1")

    def grid(self, height: int, width: int) -> Grid:
        """The places of the square in an image of height x width px; a square larger than it covers it all."""
        high, wide = min(self.size_px, height), min(self.size_px, width)
        return Grid(_origins(height - high, self.stride_px), _origins(width - wide, self.stride_px), high, wide)


Fill = Literal["mean", "gray", "black"]
"""The color of a square: the mean pixel that a classifier subtracts, middle gray, or black."""


def fill_color(fill: Fill, mean: Sequence[float]) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1]."""
    return {"mean": (mean[0], mean[1], mean[2]), "gray": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}[fill]


FILLS = {"mean": "the color of the mean pixel", "gray": "gray", "black": "black"}

Color = Sequence[float] | Tensor
"""One color (3,), or one for each rectangle (P, 3)."""


def cover(pixels: Tensor, rectangles: Sequence[Rectangle], color: Color) -> Tensor:
    """A copy of (3, H, W) for each rectangle, (P, 3, H, W), with the rectangle in its color."""
    out = pixels.repeat(len(rectangles), 1, 1, 1)
    paints = colors(color, len(rectangles)).to(pixels)
    for image, (top, left, bottom, right), paint in zip(out, rectangles, paints, strict=True):
        image[:, top:bottom, left:right] = paint[:, None, None]
    return out


def colors(color: Color, count: int) -> Tensor:
    """A color for each of so many rectangles, (P, 3), where one may have been given for all."""
    return torch.as_tensor(color, dtype=torch.float32).expand(count, 3)


def means(pixels: Tensor, rectangles: Sequence[Rectangle]) -> Tensor:
    """The mean color of an image (3, H, W) inside each rectangle, (P, 3)."""
    found = [pixels[:, top:bottom, left:right].mean((1, 2)) for top, left, bottom, right in rectangles]
    return torch.stack(found) if found else pixels.new_zeros(0, 3)


def _origins(last: int, stride: int) -> tuple[int, ...]:
    return tuple(sorted({*range(0, last + 1, stride), last}))


def _nearest(starts: Sequence[int], length: int, size: int) -> NDArray[Any]:
    """For each cell of an axis, cells being about a stride long: which square's center is nearest to the cell's?"""
    stride = starts[1] - starts[0] if len(starts) > 1 else size
    cells = max(1, round(size / stride))
    middles = (np.arange(cells) + 0.5) * size / cells
    centers = np.asarray(starts) + length / 2
    return np.abs(middles[:, None] - centers[None]).argmin(1)
