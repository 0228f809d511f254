"""The images of a training: which are learned from and which held out, cut and mirrored at random, as batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped, UnreadableError, cores
from cuescope.data.ops.crops import random_resized_crop
from cuescope.data.preprocessing import Preprocessing, frame
from cuescope.training.cutmix import CutMix
from cuescope.training.data import Parts
from cuescope.training.order import Order, random_of

MOST_LOST = 100
"""Images in a row that cannot be read before the training gives up."""
Place = tuple[float, float, float, float]
"""Of a crop: top, left, height and width in shares of the image."""
Crop = Callable[[Tensor, np.random.Generator], tuple[Tensor, Place]]
"""From an image (3, H, W) uint8 to a part of it, all of one size, and where that was."""
Target = Callable[[Sample, int, Place], Tensor]
"""From an image, its label and the place of the crop to what the crop teaches: () int64, or (K,) float32."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """A part of an image at random, resized to a square, and mirrored half of the time.

    The rule for the part is torchvision's `RandomResizedCrop`, the resize is antialiased and bilinear.

    >>> crop, place = RandomResizedCrop(8)(torch.zeros(3, 20, 30, dtype=torch.uint8), np.random.default_rng(0))
    >>> crop.shape, all(0 <= share <= 1 for share in place)
    (torch.Size([3, 8, 8]), True)
    """

    size_px: int
    scale: tuple[float, float] = (0.08, 1.0)
    """The least and the largest share of the image's area."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """The least and the largest width by height."""
    mirrored: float = 0.5
    whole: float = 0.0
    """So often it is the whole image, squeezed to the square."""

    def __call__(self, pixels: Tensor, random: np.random.Generator) -> tuple[Tensor, Place]:
        """(3, H, W) uint8 to (3, size, size) uint8, and where it was cut."""
        height, width = pixels.shape[1:]
        top, left, high, wide = 0, 0, height, width
        if not self.whole or random.random() >= self.whole:
            top, left, high, wide = random_resized_crop(height, width, random, self.scale, self.ratio)
        part = pixels[None, :, top : top + high, left : left + wide]
        size = (self.size_px, self.size_px)
        if part.shape[2:] != size:
            part = F.interpolate(part, size, mode="bilinear", antialias=True)
        if random.random() < self.mirrored:
            part = part.flip(3)
        return part[0], (top / height, left / width, high / height, wide / width)


@dataclass(frozen=True)
class SquareCrop:
    """A crop of the square of the middle, mirrored half of the time: one of its ten crops, or any (Krizhevsky 2012).

    The short side is resized to `square_px`, the square cut out of the middle, the crop out of that: one of its four
    corners or its middle, or with `ten` False from any place.

    >>> crop, (_, _, high, wide) = SquareCrop(224, 256)(torch.zeros(3, 512, 640).byte(), np.random.default_rng(0))
    >>> crop.shape, round(high, 3), round(wide, 3)
    (torch.Size([3, 224, 224]), 0.875, 0.7)
    """

    size_px: int
    square_px: int
    ten: bool = True

    def __call__(self, pixels: Tensor, random: np.random.Generator) -> tuple[Tensor, Place]:
        """(3, H, W) uint8 to (3, size, size) uint8, and where it was cut."""
        how = Preprocessing((self.square_px, self.square_px), self.square_px)
        # Whatever their framing says: all are cut as photographs are, so that there is room for crops.
        square = frame([Sample("", pixels)], how)[0]
        room = self.square_px - self.size_px
        if self.ten:
            top, left = ((0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2))[random.integers(5)]
        else:
            top, left = (int(value) for value in random.integers(room + 1, size=2))
        crop = square[:, top : top + self.size_px, left : left + self.size_px]
        if random.integers(2):
            crop = crop.flip(2)
        height, width = pixels.shape[1:]
        short = min(height, width)
        high, wide, each = short / height, short / width, 1 / self.square_px
        place = (1 - high) / 2 + top * each * high, (1 - wide) / 2 + left * each * wide
        return crop, (*place, self.size_px * each * high, self.size_px * each * wide)


class TrainingImages:
    """Batches of the images `at` these indices of a set, with `labels` or what `target` makes of them, as `Data`.

    Each image is cut and mirrored anew in each epoch, by a generator of its own. The place of an image that cannot be
    read is taken by the next one in the set, so that batches keep their size; it is listed in `lost`. `target` says
    what a crop teaches, by default the image's label; `colors` changes it. `cutmix` mixes the images of a batch, whose
    targets have to be soft, in all but the last of `epochs`.
    """

    def __init__(
        self,
        images: ImageSet,
        at: NDArray[np.int64],
        labels: NDArray[np.int64],
        crop: Crop,
        batch: int,
        seed: int,
        *,
        target: Target | None = None,
        colors: Callable[[Tensor, np.random.Generator], Tensor] | None = None,
        cutmix: CutMix | None = None,
        epochs: int = 0,
    ) -> None:
        self.images, self.at, self.labels, self.crop, self.target = images, at, labels, crop, target
        self.colors, self.cutmix, self.epochs = colors, cutmix, epochs
        self.order = Order(len(at), batch, seed)
        self.seed, self.steps = seed, self.order.steps
        self.lost: dict[str, Skipped] = {}
        """Images that could not be read so far."""
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")

    def batch(self, step: int, part: slice) -> Parts:
        """(B, 3, S, S) uint8 and (B,) int64 labels, or (B, K) float32 targets."""
        epoch, places = self.order.epoch(step), self.order.places(step)
        images, targets = self._made(places[part], epoch)
        if self.cutmix is None or not self.cutmix.is_on(epoch, self.epochs):
            return images, targets
        # What is drawn is of the whole batch, so that it does not hang on the number of processes.
        random = random_of(self.seed, epoch, step, len(places))
        cut = self.cutmix.draw(len(places), images.shape[2], images.shape[3], random)
        if cut is None:
            return images, targets
        others, their = self._made([places[i] for i in cut.other[part].tolist()], epoch)
        return cut.mixed(images, targets, others, their)

    def _made(self, places: Sequence[int], epoch: int) -> tuple[Tensor, Tensor]:
        made = list(self._pool.map(lambda place: self._one(place, epoch), places))
        images, targets = zip(*made, strict=True)
        return torch.stack(images), torch.stack(targets)

    def _one(self, place: int, epoch: int) -> tuple[Tensor, Tensor]:
        tries = min(MOST_LOST, len(self.at))
        for k in range(tries):
            i = (place + k) % len(self.at)
            index = int(self.at[i])
            try:
                sample = self.images.read(index)
                pixels = sample.pixels
            except UnreadableError as error:
                with self._lock:
                    self.lost[self.images.id(index)] = Skipped(self.images.id(index), str(error))
                continue
            random = random_of(self.seed, epoch, index)
            crop, where = self.crop(pixels, random)
            if self.colors is not None:
                crop = self.colors(crop, random)
            label = int(self.labels[i])
            return crop, torch.tensor(label) if self.target is None else self.target(sample, label, where)
        none = "no image" if tries == len(self.at) else f"none of {tries:,} images in a row"
        why = next(reversed(self.lost.values())).why
        raise CueError(f"{none} of {self.images.name} to learn from can be read: {why}", do="check the files")


def labels_of(images: ImageSet, places: Sequence[int] = ()) -> NDArray[np.int64]:
    """The label of each image, by its number in the set or, with `places`, by the output that stands for it; -1 where
    there is none or it cannot be read.
    """
    found = np.full(len(images), -1, np.int64)
    for index in range(len(images)):
        try:
            label = images.label(index)
        except UnreadableError:
            continue
        if label is not None and label >= 0:
            found[index] = places[label] if places else label
    return found
