"""Pixels as tensors to pixels as an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def to_image(pixels: Tensor) -> np.ndarray[Any, Any]:
    """(3, H, W) float in [0, 1] or uint8 to (H, W, 3) uint8, rounded.

    >>> import torch
    >>> to_image(torch.full((3, 2, 2), 0.5))[0, 0].tolist()
    [128, 128, 128]
    """
    if pixels.is_floating_point():
        pixels = (pixels.detach().float().clamp(0, 1) * 255).round().byte()
    return pixels.cpu().permute(1, 2, 0).numpy()
