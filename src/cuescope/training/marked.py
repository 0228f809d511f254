"""Images with marked objects as a detector learns from them, in batches, and as it is tried on them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.core.errors import CueError
from cuescope.data.images import Sample, Skipped, UnreadableError, cores
from cuescope.data.marked import MarkedImages
from cuescope.methods.mean_precision import Found, Kind, Truth, coco_precision
from cuescope.training.data import Parts
from cuescope.training.evaluate import Right
from cuescope.training.images import MOST_LOST
from cuescope.training.kept import Kept
from cuescope.training.order import Order, random_of

TRIED = 8
"""Images in one pass when it is tried."""


class MarkedBatches:
    """Batches of images with their objects but for crowds, each mirrored half of the time, as `Data`.

    The place of an image that cannot be read is taken by the next one, and it is listed in `lost`.
    """

    def __init__(self, images: MarkedImages, labels: Mapping[str, int], batch: int, seed: int, masks: bool) -> None:
        self.images, self.labels, self.masks, self.seed = images, labels, masks, seed
        self.order = Order(len(images), batch, seed)
        self.steps = self.order.steps
        self.lost: dict[str, Skipped] = {}
        self._kept = Kept(images)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")

    def batch(self, step: int, part: slice) -> Parts:
        """Images (B, 3, H, W) uint8, their sizes (B, 2), boxes (B, N, 4), labels (B, N) from 1 on, and with `masks`
        masks (B, N, H, W) uint8. What is smaller than the largest is filled up; a label of 0 is no object.
        """
        epoch, places = self.order.epoch(step), self.order.places(step)[part]
        made = list(self._pool.map(lambda place: self._one(place, epoch), places))
        high, wide = (max(one[0].shape[side] for one in made) for side in (1, 2))
        most = max(len(one[1]) for one in made)
        sizes = torch.tensor([one[0].shape[1:] for one in made])
        images = torch.stack([_filled(one[0], high, wide) for one in made])
        boxes = torch.stack([F.pad(one[1], (0, 0, 0, most - len(one[1]))) for one in made])
        labels = torch.stack([F.pad(one[2], (0, most - len(one[2]))) for one in made])
        if not self.masks:
            return images, sizes, boxes, labels
        masks = [F.pad(_filled(one[3], high, wide), (0, 0, 0, 0, 0, most - len(one[3]))) for one in made]
        return images, sizes, boxes, labels, torch.stack(masks)

    def _one(self, place: int, epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tries = min(MOST_LOST, len(self.images))
        for k in range(tries):
            index = (place + k) % len(self.images)
            try:
                return self._read(index, epoch)
            except UnreadableError as error:
                with self._lock:
                    self.lost[self.images.id(index)] = Skipped(self.images.id(index), str(error))
        why = next(reversed(self.lost.values())).why
        found = f"none of {tries:,} images in a row of {self.images.name} can be learned from: {why}"
        raise CueError(found, do="check the files")

    def _read(self, index: int, epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels = self._kept.read(index).pixels
        learned = [not thing.crowd for thing in self.images.things(index)]
        things = [thing for thing in self.images.things(index) if not thing.crowd]
        boxes = torch.tensor([thing.box[:4] for thing in things])
        labels = torch.tensor([self.labels[thing.box.name] + 1 for thing in things])
        masks = torch.zeros(0, *pixels.shape[1:], dtype=torch.uint8)
        if self.masks:
            masks = self.images.masks(index)[torch.tensor(learned)].byte()
        if random_of(self.seed, epoch, index).random() < 0.5:
            boxes = torch.stack(
                [pixels.shape[2] - boxes[:, 2], boxes[:, 1], pixels.shape[2] - boxes[:, 0], boxes[:, 3]], 1
            )
            pixels, masks = pixels.flip(2), masks.flip(2)
        return pixels, boxes, labels, masks


def _filled(planes: Tensor, high: int, wide: int) -> Tensor:
    """Planes (n, h, w) with zeros below and to the right."""
    return F.pad(planes, (0, wide - planes.shape[2], 0, high - planes.shape[1]))


class MarkedTrial:
    """Images that a detector is tried on."""

    def __init__(self, images: MarkedImages, labels: Mapping[str, int], masks: bool) -> None:
        self.images, self.labels, self.masks = images, labels, masks
        self.skipped: dict[str, Skipped] = {}

    def __len__(self) -> int:
        return len(self.images)

    @property
    def kind(self) -> Kind:
        return "segm" if self.masks else "bbox"

    def right(self, network: nn.Module, accelerator: Any) -> Right:
        """COCO's mean average precision at an IoU of .5, over all images that can be read."""
        tried = self.found(network, accelerator)
        value = coco_precision([one[1] for one in tried], [one[2] for one in tried], self.kind)["map50"]
        return Right(value * len(tried), len(tried))

    def found(self, network: nn.Module, accelerator: Any) -> list[tuple[int, Truth, Found]]:
        """Of each image its index, what is there and what is found, as all processes together find it.

        The network stays in training mode. Raises CueError where no image can be read.
        """
        mine = list(range(len(self)))[accelerator.process_index :: accelerator.num_processes]
        groups = [mine[i : i + TRIED] for i in range(0, len(mine), TRIED)]
        tried: list[tuple[int, Truth, Found]] = []
        network.eval()
        try:
            for samples, lost in self.images.stream(groups):
                self.skipped |= {one.id: one for one in lost}
                tried += self._tried(network, samples, accelerator)
        finally:
            network.train()
        every = sorted(gather_object(tried), key=lambda one: one[0])
        if not every:
            why = next(iter(self.skipped.values()))
            found = f"none of the {len(self):,} images held out can be read: {why.id}: {why.why}"
            raise CueError(found, wanted="images to try the detector on", do="check the files")
        return every

    def _tried(
        self, network: nn.Module, samples: Sequence[tuple[int, Sample]], accelerator: Any
    ) -> list[tuple[int, Truth, Found]]:
        there: list[tuple[int, Sample, Truth]] = []
        for index, sample in samples:
            try:
                there.append((index, sample, self.truth(index)))
            except UnreadableError as error:
                self.skipped[sample.id] = Skipped(sample.id, str(error))
        if not there:
            return []
        pixels = [sample.pixels.to(accelerator.device).float() / 255 for _, sample, _ in there]
        with torch.inference_mode(), accelerator.autocast():
            outputs = network(pixels)
        return [(index, truth, found_of(one)) for (index, _, truth), one in zip(there, outputs, strict=True)]

    def truth(self, index: int) -> Truth:
        """What is in an image. Raises UnreadableError for a mask that makes no sense."""
        things = self.images.things(index)
        masks = tuple(coded(mask) for mask in self.images.masks(index)) if self.masks else ()
        return Truth(
            np.array([thing.box[:4] for thing in things], float).reshape(-1, 4),
            np.array([self.labels[thing.box.name] for thing in things], np.int64),
            np.array([thing.crowd for thing in things], bool),
            np.array([thing.area for thing in things], float),
            masks,
        )


def found_of(output: Mapping[str, Tensor]) -> Found:
    """What torchvision's detector gives for an image."""
    boxes = output["boxes"].double().cpu().numpy()
    masks = tuple(coded(mask) for mask in output["masks"][:, 0].cpu() > 0.5) if "masks" in output else ()
    labels, scores = (output["labels"].cpu() - 1).numpy(), output["scores"].double().cpu().numpy()
    return Found(boxes, labels, scores, masks)


def coded(mask: Tensor) -> dict[str, Any]:
    """A mask (H, W) as pycocotools' run lengths."""
    from pycocotools import mask as rle

    found: Any = rle.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return found
