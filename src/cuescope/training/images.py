"""The images of a training: which are learned from and which held out, cut and mirrored at random, as batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped, UnreadableError, cores
from cuescope.data.ops.crops import random_resized_crops
from cuescope.training.data import Parts
from cuescope.training.order import Order, random_of

MOST_LOST = 100
"""Images in a row that cannot be read before the training gives up."""
Place = tuple[float, float, float, float]
"""Of a crop: top, left, height and width in shares of the image."""


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

    def __call__(self, pixels: Tensor, random: np.random.Generator) -> tuple[Tensor, Place]:
        """(3, H, W) uint8 to (3, size, size) uint8, and where it was cut."""
        height, width = pixels.shape[1:]
        top, left, high, wide = random_resized_crops(height, width, 1, random, self.scale, self.ratio)[0].tolist()
        part = pixels[None, :, top : top + high, left : left + wide]
        size = (self.size_px, self.size_px)
        if part.shape[2:] != size:
            part = F.interpolate(part, size, mode="bilinear", antialias=True)
        if random.random() < self.mirrored:
            part = part.flip(3)
        return part[0], (top / height, left / width, high / height, wide / width)


class TrainingImages:
    """Batches of the images `at` these indices of a set, with the targets `labels`, as `Data`.

    Each image is cut and mirrored anew in each epoch, by a generator of its own. The place of an image that cannot be
    read is taken by the next one in the set, so that batches keep their size; it is listed in `skipped`. With
    `maps` the targets are those of the crop from the image's label map (Yun et al. 2021), not its label.
    """

    def __init__(
        self,
        images: ImageSet,
        at: NDArray[np.int64],
        labels: NDArray[np.int64],
        crop: RandomResizedCrop,
        batch: int,
        seed: int,
        maps: bool = False,
    ) -> None:
        self.images, self.at, self.labels, self.crop, self.maps = images, at, labels, crop, maps
        self.order = Order(len(at), batch, seed)
        self.seed, self.steps = seed, self.order.steps
        self._lost: dict[str, Skipped] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Images that nothing was learned from: those that the set itself left out, and the unreadable."""
        return tuple(({one.id: one for one in self.images.skipped} | self._lost).values())

    def batch(self, step: int, part: slice) -> Parts:
        """(B, 3, S, S) uint8 and (B,) int64 labels, or (B, K) float32 targets."""
        epoch = self.order.epoch(step)
        made = list(self._pool.map(lambda place: self._one(place, epoch), self.order.places(step)[part]))
        images, targets = zip(*made, strict=True)
        return torch.stack(images), torch.stack(targets)

    def _one(self, place: int, epoch: int) -> tuple[Tensor, Tensor]:
        for k in range(min(MOST_LOST, len(self.at))):
            i = (place + k) % len(self.at)
            index = int(self.at[i])
            try:
                sample = self.images.read(index)
                pixels = sample.pixels
            except UnreadableError as error:
                with self._lock:
                    self._lost[self.images.id(index)] = Skipped(self.images.id(index), str(error))
                continue
            crop, where = self.crop(pixels, random_of(self.seed, epoch, index))
            return crop, self._target(sample, i, where)
        why = next(iter(self._lost.values())).why
        raise CueError(f"no image of {self.images.name} to learn from can be read: {why}", do="check the files")

    def _target(self, sample: Sample, i: int, where: Place) -> Tensor:
        if self.maps:
            if sample.label_map is None:
                do = "make maps of all images: cuescope make label-maps"
                raise CueError(f"'{sample.id}' has no label map", wanted="one for each image", do=do)
            return sample.label_map([where])[0].float()
        return torch.tensor(int(self.labels[i]))


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
