"""Filters side by side."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.data.ops.convert import GAP_PX

CELL_PX = 40
SHAPE = 2.4
"""Width of a sheet over its height, about."""


def contact_sheet(*groups: Tensor, width_px: int = 0) -> NDArray[np.uint8]:
    """Filters (N, C, h, w) as one image (H, W, 3) on white, each stretched to its own contrast about gray.

    With three channels in color, else in gray: their mean. Zero is middle gray, the largest absolute weight of a filter
    white or black. Several groups stand apart from each other by half a filter. `width_px` sets the sheet's width.

    >>> import torch
    >>> contact_sheet(torch.randn(6, 3, 7, 7)).shape
    (88, 180, 3)
    """
    cells = [[_cell(one) for one in group] for group in groups]
    height, width = cells[0][0].shape[:2]
    total = sum(map(len, cells)) + (len(cells) - 1) / 2
    across = max(1.0, math.ceil(math.sqrt(total * SHAPE * (height + GAP_PX) / (width + GAP_PX))))
    if width_px:
        across = max(1.0, (width_px + GAP_PX) / (width + GAP_PX))
    places, row, x = [], 0, 0.0
    for group in cells:
        # A group that fits in a row is not broken.
        if x and x + min(len(group), across) > across:
            row, x = row + 1, 0.0
        for _ in group:
            if x + 1 > across:
                row, x = row + 1, 0.0
            places.append((row, x))
            x += 1
        x += 0.5
    lefts = [round(x * (width + GAP_PX)) for _, x in places]
    size = places[-1][0] * (height + GAP_PX) + height, max(width_px, max(lefts) + width), 3
    sheet = np.full(size, 255, np.uint8)
    for cell, (line, _), left in zip((c for group in cells for c in group), places, lefts, strict=True):
        top = line * (height + GAP_PX)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def _cell(one: Tensor) -> NDArray[Any]:
    """(C, h, w) as (H, W, 3) uint8, a whole number of pixels a weight."""
    shown = (one if len(one) == 3 else one.mean(0, keepdim=True).expand(3, -1, -1)).float()
    most = float(shown.abs().max()) or 1.0
    times = max(1, math.ceil(CELL_PX / max(shown.shape[1:])))
    large = F.interpolate(((shown / most + 1) * 127.5).round()[None], scale_factor=times, mode="nearest")[0]
    return large.permute(1, 2, 0).byte().numpy()
