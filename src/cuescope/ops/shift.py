"""A random square crop and its copies shifted by a pixel: the crop protocol of Azulay & Weiss (PROTOCOLS 8a)."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Square(NamedTuple):
    """A square of an image in pixels: its top, left and side."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class ShiftedCrop:
    """Crop a random square, resize it to the input plus a margin, and cut two windows `shift_px` apart.

    The square's area is a share of the image drawn uniformly from [`scale_min`, `scale_max`] (Szegedy et al.
    2015); the windows differ by a diagonal shift of the network's input. The draw depends on the seed and the
    image's id alone, so every classifier is asked about the same square.

    >>> ShiftedCrop().square("a.jpg", 100, 80) == ShiftedCrop().square("a.jpg", 100, 80)
    True
    """

    scale_min: float = 0.08
    scale_max: float = 1.0
    shift_px: int = 1
    seed: int = 0

    def square(self, name: str, height: int, width: int) -> Square:
        digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        draw = random.Random(int.from_bytes(digest, "big"))
        scale = draw.uniform(self.scale_min, self.scale_max)
        side = max(1, min(round(math.sqrt(scale * height * width)), height, width))
        return Square(draw.randint(0, height - side), draw.randint(0, width - side), side)

    def pair(self, pixels: Tensor, name: str, size: tuple[int, int], interpolation: str) -> Tensor:
        """(3, H, W) uint8 to (2, 3, h, w) float32 in [0, 1]: the window at 0 and the one at `shift_px`."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        top, left, side = self.square(name, pixels.shape[1], pixels.shape[2])
        height, width = size
        enlarged = F.resized_crop(
            pixels,
            top,
            left,
            side,
            side,
            [height + self.shift_px, width + self.shift_px],
            interpolation=InterpolationMode(interpolation),
            antialias=True,
        )
        d = self.shift_px
        windows = torch.stack([enlarged[:, :height, :width], enlarged[:, d : d + height, d : d + width]])
        return windows.float() / 255
