"""Views of an image that differ by a few pixels: the small transformations of Azulay & Weiss and the crops of Zhang."""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.images import Sample, each
from cuescope.data.ops.inpaint import Fill, inpaint
from cuescope.data.preprocessing import Preprocessing, covering, frame, resize

INPUT_PX = 224
"""The input of the networks of the paper: lengths that it gives in pixels are for this."""

Canvas = Literal["black", "gray"]


class Square(NamedTuple):
    """A square of an image in pixels."""

    top: int
    left: int
    side: int


def draw(seed: int, name: str, purpose: str = "") -> random.Random:
    """Random numbers that depend on the seed and the image's name alone, so that all classifiers are asked the same."""
    text = f"{seed}/{name}/{purpose}" if purpose else f"{seed}/{name}"
    return random.Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def to_pixels(views: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    """(N, H, W, 3) uint8, or float32 of 0 to 255, to (N, 3, H, W) float32 in [0, 1]."""
    pixels = torch.from_numpy(views).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


@dataclass(frozen=True)
class ShiftedCrop:
    """Crop a random square, enlarge it to more than the input, and cut windows that lie `shift_px` apart.

    The square's area is a share of the image drawn uniformly from [`scale_min`, `scale_max`] (Szegedy et al. 2015).
    `of` says what a diagonal shift is of: the network's input, where windows are cut from the square, enlarged by
    `margin_px` for an input of 224 px or by what the shifts need; or the source, where the square itself moves over the
    image and each is resized to the input.

    >>> ShiftedCrop().square("a.jpg", 100, 80) == ShiftedCrop().square("a.jpg", 100, 80)
    True
    """

    scale_min: float = 0.08
    scale_max: float = 1.0
    shift_px: int = 1
    seed: int = 0
    margin_px: int = 0
    of: Literal["input", "source"] = "input"

    def square(self, name: str, height: int, width: int, steps: int = 1) -> Square:
        room = self.shift_px * steps if self.of == "source" else 0
        chance = draw(self.seed, name)
        scale = chance.uniform(self.scale_min, self.scale_max)
        side = max(1, min(round(math.sqrt(scale * height * width)), height - room, width - room))
        # An image that has no room for the shifts is continued by its last row and column.
        down, right = (max(0, have - side - room) for have in (height, width))
        return Square(chance.randint(0, down), chance.randint(0, right), side)

    def views(self, samples: Sequence[Sample], how: Preprocessing, steps: int = 1) -> Tensor:
        """(B * (steps + 1), 3, h, w) float32 in [0, 1]: for each image the windows at 0, shift_px, 2 shift_px, ..."""
        height, width = how.size
        d = self.shift_px
        if self.of == "source":
            return self._moved(samples, how, steps)
        margin = max(d * steps, round(self.margin_px * min(how.size) / INPUT_PX))
        out = np.empty((len(samples), steps + 1, height, width, 3), np.uint8)

        def cut(i: int) -> None:
            pixels = samples[i].pixels
            top, left, side = self.square(samples[i].id, pixels.shape[1], pixels.shape[2])
            square = pixels[:, top : top + side, left : left + side].permute(1, 2, 0).contiguous().numpy()
            enlarged = resize(square, (height + margin, width + margin), how.interpolation)
            for k in range(steps + 1):
                out[i, k] = enlarged[k * d : k * d + height, k * d : k * d + width]

        each(cut, len(samples))
        return to_pixels(out.reshape(-1, height, width, 3))

    def _moved(self, samples: Sequence[Sample], how: Preprocessing, steps: int) -> Tensor:
        """Views of squares that move over the image."""
        out = np.empty((len(samples), steps + 1, *how.size, 3), np.uint8)

        def cut(i: int) -> None:
            pixels = samples[i].pixels.permute(1, 2, 0).numpy()
            top, left, side = self.square(samples[i].id, pixels.shape[0], pixels.shape[1], steps)
            ends = top + side + self.shift_px * steps, left + side + self.shift_px * steps
            lacking = [max(0, end - have) for end, have in zip(ends, pixels.shape, strict=False)]
            if any(lacking):
                pixels = np.pad(pixels, ((0, lacking[0]), (0, lacking[1]), (0, 0)), "edge")
            for k in range(steps + 1):
                y, x = top + k * self.shift_px, left + k * self.shift_px
                square = np.ascontiguousarray(pixels[y : y + side, x : x + side])
                out[i, k] = resize(square, how.size, how.interpolation)

        each(cut, len(samples))
        return to_pixels(out.reshape(-1, *how.size, 3))


@dataclass(frozen=True)
class Embedding:
    """Scale an image down and put it at random places of a canvas that lie `shift_px` apart, or in growing sizes.

    The short side becomes `short_px` for an input of 224 px, with the aspect ratio kept; a long side that would not
    fit is cut in the middle. With `grow_px` the place (the top left corner) stays and the short side grows from view
    to view. The canvas is black (pixel 0), or the gray that the network subtracts, as in the authors' code; `fill`
    paints what is left of a black canvas from what surrounds it (see `ops.inpaint`).
    """

    short_px: int = 100
    shift_px: int = 1
    grow_px: int = 0
    canvas: Canvas = "black"
    fill: Fill = "none"
    seed: int = 0

    def views(self, samples: Sequence[Sample], how: Preprocessing, steps: int = 1) -> Tensor:
        """(B * (steps + 1), 3, h, w) float32 in [0, 1]: the views of each image side by side."""
        height, width = how.size
        largest = self._short(how) + steps * self.grow_px
        if largest + steps * self.shift_px > min(how.size):
            found = f"an embedded image of {largest} px that is moved by {steps * self.shift_px} px"
            wanted = f"room for it in the network's input of {height} x {width} px"
            raise CueError(found, wanted=wanted, do="choose a smaller embed_px, or fewer pairs")
        out = np.empty((len(samples), steps + 1, height, width, 3), np.float32)
        out[:] = np.float32(255) * np.asarray(how.mean, np.float32) if self.canvas == "gray" else 0

        def embed(i: int) -> None:
            small = [self._scaled(samples[i], how, k * self.grow_px, steps) for k in range(steps + 1)]
            top, left = self.place(samples[i].id, how.size, (small[-1].shape[0], small[-1].shape[1]), steps)
            for k, image in enumerate(small):
                y, x = top + k * self.shift_px, left + k * self.shift_px
                out[i, k, y : y + image.shape[0], x : x + image.shape[1]] = image
                if self.fill != "none":
                    out[i, k] = inpaint(out[i, k], (y, x, y + image.shape[0], x + image.shape[1]), self.fill)

        each(embed, len(samples))
        return to_pixels(out.reshape(-1, height, width, 3))

    def place(self, name: str, size: tuple[int, int], largest: tuple[int, int], steps: int = 1) -> tuple[int, int]:
        """The top left corner of the first view, from which all views fit."""
        chance, shift = draw(self.seed, name, "embed"), self.shift_px * steps
        return chance.randint(0, size[0] - shift - largest[0]), chance.randint(0, size[1] - shift - largest[1])

    def _short(self, how: Preprocessing) -> int:
        return max(1, round(self.short_px * min(how.size) / INPUT_PX))

    def _scaled(self, sample: Sample, how: Preprocessing, more: int, steps: int) -> NDArray[np.uint8]:
        pixels = np.ascontiguousarray(sample.pixels.permute(1, 2, 0).numpy())
        shape = covering((pixels.shape[0], pixels.shape[1]), self._short(how) + more)
        small = resize(pixels, shape, how.interpolation)
        room = [side - self.shift_px * steps for side in how.size]
        y, x = (max(0, have - fits) // 2 for have, fits in zip(small.shape, room, strict=False))
        return small[y : y + room[0], x : x + room[1]]


def larger(samples: Sequence[Sample], how: Preprocessing, more_px: int) -> Tensor:
    """(B, 3, H + more_px, W + more_px) uint8: the images framed for an input that is so much larger.

    They are resized as ever, or to cover the larger frame where that leaves too little.
    """
    height, width = (side + more_px for side in how.size)
    short = how.resize
    room = max(short, height, width) if isinstance(short, int) else (max(short[0], height), max(short[1], width))
    return frame(samples, replace(how, size=(height, width), resize=room))


@dataclass(frozen=True)
class Window:
    """The middle of an image, larger than the network's input by `range_px`: room for crops at that many offsets.

    `range_px` is for an input of 224 px, for others in proportion: 32 make Zhang's (2019) window of 256 px. The image
    is resized as the network's evaluation does it, or to cover the window where that leaves too little. A stimulus is
    resized to the window.

    >>> Window(32).offsets(Preprocessing((224, 224), 256)), Window(32).offsets(Preprocessing((64, 64), 64))
    (32, 9)
    """

    range_px: int = 32

    def offsets(self, how: Preprocessing) -> int:
        """How many offsets there are along each axis; the middle one is the evaluation's own, if that leaves room."""
        return max(1, round(self.range_px * min(how.size) / INPUT_PX))

    def pixels(self, samples: Sequence[Sample], how: Preprocessing) -> Tensor:
        """(B, 3, h, w) uint8, with h and w the input's plus the number of offsets."""
        return larger(samples, how, self.offsets(how))

    def is_small(self, sample: Sample, how: Preprocessing) -> bool:
        """Whether an image is smaller than the window and so is enlarged."""
        return any(have < wants for have, wants in zip(sample.pixels.shape[1:], self._size(how), strict=True))

    def _size(self, how: Preprocessing) -> tuple[int, int]:
        more = self.offsets(how)
        return how.size[0] + more, how.size[1] + more
