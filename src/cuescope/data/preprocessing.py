"""Decoded images of any size to the input of a network, as the classifier's own evaluation does it.

Resizing is Pillow's, on bytes, as for the published numbers of the networks. torchvision's resize of uint8 tensors, 1.5
to 2 times faster, has weights of fewer bits: pixels differ by up to 2 of 255, and 1 to 3 top-1 answers of 500 change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cuescope.core.errors import CueError, unknown
from cuescope.data.images import Box, Framing, Sample, each

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

NAMES = ("bilinear", "bicubic", "lanczos", "box", "hamming", "nearest")
FILTERS = {name: Image.Resampling[name.upper()] for name in NAMES}
CHANNELS = ("RGB", "BGR")
ROUNDING = ("even", "down")

MOST_PX = 8192
"""The longest side of an input: one image of 8,192 x 8,192 px takes 805 MB."""
MOST_STD = 4.0
"""A larger one is none of pixels in [0, 1], whose deviation is at most 0.5."""
EXAMPLE = "size=(224, 224), resize=256"

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8, as Pillow has it."""


@dataclass(frozen=True)
class Preprocessing:
    """How does a decoded photograph become network input?

    `size` is (H, W) of the input in px, cut from the middle after a resize to `resize`: the length of the short
    side in px, or the (H, W) to cover with the aspect ratio kept. Without `keep_aspect` the image is squeezed to
    just that (H, W), or square. With `whole` it is resized until all of it fits into that, black beyond it.
    `interpolation` is "bilinear", "bicubic", "lanczos", "box", "hamming" (all antialiased) or "nearest". `mean` and
    `std` are of RGB in [0, 1]. `source` says where all this was read. `channels` is the order in which the network
    takes them: "RGB", or "BGR" as Caffe's. `rounding` says where the middle begins when an odd number of px is cut
    away: "even", as torchvision and timm round, or "down", as transformers does.

    Raises CueError for values that cannot be, such as those of pixels from 0 to 255.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | tuple[int, int] = 256
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    source: str = "given"
    keep_aspect: bool = True
    channels: str = "RGB"
    rounding: str = "even"
    whole: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in FILTERS:
            raise unknown("interpolation", self.interpolation, FILTERS)
        if self.channels not in CHANNELS:
            raise unknown("order of channels", self.channels, CHANNELS)
        if self.rounding not in ROUNDING:
            raise unknown("rounding", self.rounding, ROUNDING)
        self._check_sides()
        self._check_colors()

    @property
    def sides(self) -> tuple[int, int]:
        """What both sides reach at least after the resize, or at most where it is `whole`."""
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize

    @property
    def black(self) -> bool:
        """Whether the resized image may be smaller than what is cut out of it: it is black beyond then."""
        return not self.whole and any(have < want for have, want in zip(self.sides, self.size, strict=True))

    def _check_sides(self) -> None:
        given = f"preprocessing size {self.size}, resize {self.resize}"
        size: Any = self.size
        resize: Any = self.resize
        resize = (resize,) if isinstance(resize, Real) else tuple(resize)
        if isinstance(size, Real) or not all(isinstance(side, Integral) for side in (*size, *resize)):
            raise CueError(given, wanted="whole px: height and width", do=f"write them as {EXAMPLE}")
        sides = (*size, *resize)
        if len(size) != 2 or len(resize) > 2 or not 1 <= min(sides) <= max(sides) <= MOST_PX:
            raise CueError(given, wanted=f"sides of 1 to {MOST_PX:,} px", do=f"write them as {EXAMPLE}")

    def _check_colors(self) -> None:
        found = f"preprocessing mean {self.mean}, std {self.std}"
        wanted = "three numbers each, for red, green and blue in [0, 1], std above 0"
        if len(self.mean) != 3 or len(self.std) != 3 or not np.isfinite((*self.mean, *self.std)).all():
            raise CueError(found, wanted=wanted, do="correct it")
        if min(self.std) <= 0:
            raise CueError(found, wanted=wanted, do="correct it")
        if max(self.mean) > 1 or max(self.std) > MOST_STD:
            mean, std = ("(" + ", ".join(f"{v / 255:.4g}" for v in values) + ")" for values in (self.mean, self.std))
            do = f"divide by 255 what is of pixels from 0 to 255: mean={mean}, std={std}"
            raise CueError(found, wanted=wanted, do=do)


def usual(side: int) -> Preprocessing:
    """The usual evaluation for a square input of this side: the short side resized to 8/7 of it, the middle cut out.

    >>> usual(224).resize
    256
    """
    return Preprocessing((side, side), max(side, round(side * 8 / 7)), source="the usual one")


def frame(samples: Sequence[Sample], how: Preprocessing) -> Tensor:
    """(B, 3, H, W) uint8 of the input size: photographs resized and center-cropped, stimuli only resized."""
    height, width = how.size
    out = np.empty((len(samples), height, width, 3), np.uint8)

    def fill(i: int) -> None:
        pixels = np.ascontiguousarray(samples[i].pixels.permute(1, 2, 0).numpy())
        shape = resized((pixels.shape[0], pixels.shape[1]), how, samples[i].framing)
        out[i] = center_crop(resize(pixels, shape, how.interpolation), how.size, how.rounding)

    each(fill, len(samples), least=4)
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def resized(shape: tuple[int, int], how: Preprocessing, framing: Framing) -> tuple[int, int]:
    """The (H, W) that an image of `shape` is resized to before the crop from its middle."""
    if framing == "stimulus":
        return how.size
    if how.whole:
        return fitting(shape, how.sides)
    return covering(shape, how.resize) if how.keep_aspect else how.sides


def locate(box: Box, shape: tuple[int, int], how: Preprocessing, framing: Framing = "photograph") -> Box:
    """Where does a rectangle of a decoded image of (H, W) = `shape` lie in the network's input? In px of the input.

    What the crop cuts away lies beyond its borders: below 0, or above the sides of `how.size`.

    >>> locate(Box(100, 0, 200, 100, "eye"), (100, 300), Preprocessing(size=(32, 32), resize=50))
    Box(x0=-9.0, y0=-9.0, x1=41.0, y1=41.0, name='eye')
    """
    target = resized(shape, how, framing)
    y, x = (to / of for to, of in zip(target, shape, strict=True))
    top, left = (_start(have, want, how.rounding) for have, want in zip(target, how.size, strict=True))
    return Box(box.x0 * x - left, box.y0 * y - top, box.x1 * x - left, box.y1 * y - top, box.name)


def objects_in(sample: Sample, how: Preprocessing, *, of_label: bool = True) -> NDArray[np.bool_] | None:
    """Where are the objects of an image in the network's input? (H, W); None where that is unknown or all are cut away.

    By the mask where there is one, else by the boxes: those that are named as the first, the label's, or all of them.

    >>> seen = Sample("a.jpg", torch.zeros(3, 4, 8, dtype=torch.uint8), boxes=(Box(2, 0, 4, 4),))
    >>> objects_in(seen, Preprocessing((2, 2), 2)).tolist()
    [[True, False], [True, False]]
    """
    height, width = how.size
    inside = np.zeros((height, width), bool)
    if sample.mask is not None:
        drawn = sample.mask.to(torch.uint8).mul(255).expand(3, -1, -1)
        inside = (frame([sample.but(pixels=drawn)], how)[0, 0] > 127).numpy()
    shape = (sample.pixels.shape[1], sample.pixels.shape[2]) if sample.boxes and sample.mask is None else (1, 1)
    for box in sample.boxes if sample.mask is None else ():
        if not of_label or box.name == sample.boxes[0].name:
            x0, y0, x1, y1, _ = locate(box, shape, how, sample.framing)
            rows, columns = (slice(max(round(low), 0), max(round(high), 0)) for low, high in ((y0, y1), (x0, x1)))
            inside[rows, columns] = True
    return inside if inside.any() else None


def covering(shape: tuple[int, int], target: int | tuple[int, int]) -> tuple[int, int]:
    """The (H, W) an image of `shape` is resized to: its short side on the target, or both sides at least.

    Rounded as torchvision's Resize (down) for a short side, as timm's ResizeKeepRatio (nearest) for a pair.

    >>> covering((375, 500), 256), covering((500, 375), (128, 256))
    ((256, 341), (341, 256))
    """
    height, width = shape
    if isinstance(target, int):
        tall = height > width
        return (int(target * height / width), target) if tall else (target, int(target * width / height))
    ratio = min(height / target[0], width / target[1])
    return round(height / ratio), round(width / ratio)


def fitting(shape: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The (H, W) an image of `shape` is resized to so that it just fits into the target, rounded to the nearest.

    >>> fitting((375, 500), (224, 224))
    (168, 224)
    """
    ratio = max(have / want for have, want in zip(shape, target, strict=True))
    return max(round(shape[0] / ratio), 1), max(round(shape[1] / ratio), 1)


def resize(pixels: Pixels, shape: tuple[int, int], interpolation: str) -> Pixels:
    """Pillow's antialiased resize; the very same array where the size already fits."""
    if pixels.shape[:2] == shape:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((shape[1], shape[0]), FILTERS[interpolation]))


def center_crop(pixels: Pixels, size: tuple[int, int], rounding: str = "even") -> Pixels:
    """The middle of an image, black beyond it where it is too small: torchvision's CenterCrop, or transformers'."""
    top, left = (_start(have, want, rounding) for have, want in zip(pixels.shape[:2], size, strict=True))
    room = [max(want - have, 0) for want, have in zip(size, pixels.shape[:2], strict=True)]
    if any(room):
        before = (max(-top, 0), max(-left, 0))
        pixels = np.pad(pixels, [*((b, r - b) for b, r in zip(before, room, strict=True)), (0, 0)])
        top, left = max(top, 0), max(left, 0)
    return pixels[top : top + size[0], left : left + size[1]]


def _start(have: int, want: int, rounding: str) -> int:
    """Where the middle `want` px of `have` start; below 0 where there are too few."""
    if rounding == "down":
        return (have - want) // 2
    # Python's round, to even, is what torchvision uses here.
    return round((have - want) / 2.0) if have >= want else -((want - have) // 2)
