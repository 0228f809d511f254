"""A random square crop and its copies shifted by a pixel: the crop protocol of Azulay & Weiss 2019."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cuescope.images import Sample
from cuescope.preprocessing import Preprocessing, resize


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

    def pairs(self, samples: Sequence[Sample], how: Preprocessing) -> Tensor:
        """(2 B, 3, h, w) float32 in [0, 1]: for each image the window at 0, then the one at `shift_px`."""
        height, width = how.size
        out = np.empty((2 * len(samples), height, width, 3), np.uint8)
        d = self.shift_px

        def cut(i: int) -> None:
            pixels = samples[i].pixels
            top, left, side = self.square(samples[i].id, pixels.shape[1], pixels.shape[2])
            square = pixels[:, top : top + side, left : left + side].permute(1, 2, 0).contiguous().numpy()
            enlarged = resize(square, (height + d, width + d), how.interpolation)
            out[2 * i], out[2 * i + 1] = enlarged[:height, :width], enlarged[d:, d:]

        with ThreadPoolExecutor(max(1, torch.get_num_threads()), thread_name_prefix="crop") as pool:
            list(pool.map(cut, range(len(samples))))
        return torch.from_numpy(out).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255
