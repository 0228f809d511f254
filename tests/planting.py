"""Copies of images that are nearly the same: compressed anew, mirrored, cropped."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

KINDS = ("compressed", "mirrored", "cropped", "mirrored cropped")


def copied(pixels: Tensor, kind: str, quality: int = 40, kept: float = 0.9) -> Tensor:
    """An image (3, H, W) uint8 as a JPEG of this quality, and by its kind mirrored, or cut to so much of its sides."""
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    if "mirrored" in kind:
        image = ImageOps.mirror(image)
    if "cropped" in kind:
        width, height = image.size
        left, top = round((1 - kept) * width / 2), round((1 - kept) * height / 2)
        image = image.crop((left, top, left + round(kept * width), top + round(kept * height)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)
