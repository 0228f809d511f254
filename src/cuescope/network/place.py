"""Where a map of positions lies on its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cuescope.network.receptive import Extent


@dataclass(frozen=True)
class Place:
    """(x0, y0, x1, y1) in shares of the image's width and height: the rectangle that the cells of a map fill.

    >>> nine = Extent(start_px=0, stride_px=8, size_px=9)
    >>> Place.of_fields(nine, nine, shape=(3, 3), size=(25, 25)).middle(0, 2, (3, 3))
    (0.82, 0.18)
    """

    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    @classmethod
    def of_fields(cls, rows: Extent, columns: Extent, shape: Sequence[int], size: Sequence[int]) -> Place:
        """Of a map of `shape` (h, w) on an image of `size` (H, W): a cell a stride wide about each field's middle.

        It may reach beyond the image, and end before it: with padding, the first middle lies at the border.
        """
        sides = []
        for seen, cells, pixels in ((columns, shape[1], size[1]), (rows, shape[0], size[0])):
            start = seen.start_px + (seen.size_px - seen.stride_px) / 2
            sides.append((start / pixels, (start + seen.stride_px * cells) / pixels))
        (x0, x1), (y0, y1) = sides
        return cls((x0, y0, x1, y1))

    def middle(self, row: int, column: int, shape: Sequence[int]) -> tuple[float, float]:
        """(x, y) of the middle of a cell of a map of `shape` (h, w), in shares of the image's width and height."""
        x0, y0, x1, y1 = self.extent
        return x0 + (x1 - x0) * (column + 0.5) / shape[1], y0 + (y1 - y0) * (row + 0.5) / shape[0]
