"""Where the object of an image is."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cuescope.data.images import Sample
from cuescope.data.preprocessing import Preprocessing, locate


def object_mask(sample: Sample, prepare: Callable[[Sequence[Sample]], Tensor]) -> Tensor | None:
    """Where is the object, (H, W) bool on the CPU, in the image as `prepare` frames it? None if unknown or unseen.

    By the sample's mask, or else by all of its boxes. `prepare` is `Classifier.prepare`.
    """
    _, height, width = sample.pixels.shape
    mask = sample.mask
    if mask is None and sample.boxes:
        mask = torch.zeros(height, width, dtype=torch.bool)
        for box in sample.boxes:
            mask[int(box.y0) : -int(-box.y1 // 1), int(box.x0) : -int(-box.x1 // 1)] = True
    if mask is None:
        return None
    as_pixels = mask.to(torch.uint8).mul(255).expand(3, -1, -1)
    seen = prepare([Sample(sample.id, as_pixels, framing=sample.framing)])[0, 0].cpu() > 0.5
    return seen if seen.any() else None


class SeenBox(NamedTuple):
    """What the network's input shows of an object, as shares of the input's sides."""

    x: float
    """Of the center of the part that is seen, from the left."""
    y: float
    """From the top."""
    width: float
    height: float
    whole: bool
    """Whether all of the object is seen."""


def largest_seen(sample: Sample, how: Preprocessing, room_px: int = 0) -> SeenBox | None:
    """Which object of an image is largest, as the network sees it? None where no box is in view.

    An object counts as whole if it keeps `room_px` pixels from the border of the input on all sides.

    >>> from cuescope.data.images import Box
    >>> sample = Sample("a", torch.zeros(3, 10, 20), boxes=(Box(0, 0, 10, 5), Box(11, 2, 13, 6)))
    >>> largest_seen(sample, Preprocessing((10, 10), 10))
    SeenBox(x=0.25, y=0.25, width=0.5, height=0.5, whole=False)
    """
    shape, (height, width) = (sample.pixels.shape[1], sample.pixels.shape[2]), how.size
    found = []
    for box in (locate(box, shape, how, sample.framing) for box in sample.boxes):
        x0, y0, x1, y1 = max(box.x0, 0), max(box.y0, 0), min(box.x1, width), min(box.y1, height)
        whole = min(box.x0, box.y0, width - box.x1, height - box.y1) >= room_px
        if x1 > x0 and y1 > y0:
            center = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
            found.append(SeenBox(*center, (x1 - x0) / width, (y1 - y0) / height, whole))
    return max(found, key=lambda box: box.width * box.height, default=None)
