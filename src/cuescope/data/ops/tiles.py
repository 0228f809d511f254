"""Small images side by side, as one image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.data.ops import convert

SIDE_PX = 84
"""Side of a tile."""
BETWEEN_PX = 16
"""Between two grids of tiles."""


def tile(image: Tensor, side: int = SIDE_PX) -> Tensor:
    """(3, h, w) in [0, 1] of any size as (3, side, side) on the CPU: its longer side fits, the rest is white.

    What is smaller than the tile is enlarged pixel by pixel.
    """
    height, width = image.shape[1:]
    times = side / max(height, width)
    size = max(1, round(height * times)), max(1, round(width * times))
    way: dict[str, Any] = {"mode": "nearest"} if times > 1 else {"mode": "bilinear", "antialias": True}
    small = F.interpolate(image[None].float().cpu(), size, **way)[0].clamp(0, 1)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    canvas = torch.ones(3, side, side)
    canvas[:, top : top + size[0], left : left + size[1]] = small
    return canvas


def contrast(projection: Tensor) -> Tensor:
    """A projection (3, h, w) of any sign as an image in [0, 1]: 0 is middle gray, its largest value black or white.

    >>> contrast(torch.tensor([-2.0, 0.0, 1.0])).tolist()
    [0.0, 0.5, 0.75]
    """
    # A few values far above the rest would leave all others gray.
    reach = projection.abs().flatten().float()
    top = torch.quantile(reach[: 1 << 24], 0.99) if reach.numel() > 200 else reach.max()
    return (0.5 + 0.5 * projection / top.clamp_min(1e-12)).clamp(0, 1)


def sheet(grids: Sequence[Sequence[Tensor]], columns: int) -> np.ndarray[Any, Any]:
    """Grids of equal tiles (3, s, s), each `columns` wide, beside each other on white: (H, W, 3) uint8.

    >>> sheet([[torch.zeros(3, 10, 10)] * 9] * 2, columns=3).shape
    (38, 92, 3)
    """
    blocks = [convert.sheet([grid[i : i + columns] for i in range(0, len(grid), columns)], columns) for grid in grids]
    rows = max(map(len, blocks))
    padded = [np.pad(b, ((0, rows - len(b)), (0, BETWEEN_PX), (0, 0)), constant_values=255) for b in blocks]
    return np.hstack(padded)[:, :-BETWEEN_PX]
