"""Where a map of positions lies on the image it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """(x0, y0, x1, y1) in shares of the image's width and height: the rectangle that the cells of a map fill.

    >>> Place.of_patches(9, 8, 0, shape=(3, 3), size=(25, 25)).middle(0, 2, (3, 3))
    (0.82, 0.18)
    """

    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    @classmethod
    def of_patches(
        cls, field_px: int, stride_px: int, start_px: int, shape: Sequence[int], size: Sequence[int]
    ) -> Place:
        """Of a map of `shape` (h, w) on an image of `size` (H, W): a cell, a stride wide, around each patch's middle."""
        start = start_px + (field_px - stride_px) / 2
        (rows, columns), (height, width) = shape, size
        return cls(
            (start / width, start / height, (start + stride_px * columns) / width, (start + stride_px * rows) / height)
        )

    def middle(self, row: int, column: int, shape: Sequence[int]) -> tuple[float, float]:
        """(x, y) of the middle of a cell of a map of `shape` (h, w), in shares of the image's width and height."""
        x0, y0, x1, y1 = self.extent
        return x0 + (x1 - x0) * (column + 0.5) / shape[1], y0 + (y1 - y0) * (row + 0.5) / shape[0]
