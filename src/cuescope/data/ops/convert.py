"""Pixels as tensors to pixels as an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

GAP_PX = 4
"""Between the images of a sheet."""


def as_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as uint8, rounded; what lies outside is clamped.

    >>> as_bytes(torch.tensor([-0.2, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    return (pixels.detach().float().clamp(0, 1) * 255).round().byte()


def to_image(pixels: Tensor) -> np.ndarray[Any, Any]:
    """(3, H, W) float in [0, 1] or uint8 to (H, W, 3) uint8, rounded."""
    return (as_bytes(pixels) if pixels.is_floating_point() else pixels).cpu().permute(1, 2, 0).numpy()


def sheet(rows: Sequence[Sequence[Tensor]], columns: int = 1) -> np.ndarray[Any, Any]:
    """Images of one size, (3, h, w) float in [0, 1], side by side, a row below the other, on white: (H, W, 3) uint8.

    It is at least so many columns wide.

    >>> sheet([[torch.zeros(3, 10, 20)] * 2, [torch.zeros(3, 10, 20)]], 3).shape
    (24, 68, 3)
    """
    height, width = next((image.shape[1:] for row in rows for image in row), (1, 1))
    columns = max([columns, *map(len, rows)])
    down, right = height + GAP_PX, width + GAP_PX
    out = torch.ones(3, len(rows) * down - GAP_PX, columns * right - GAP_PX)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            out[:, i * down : i * down + height, j * right : j * right + width] = image.cpu()
    return to_image(out)
