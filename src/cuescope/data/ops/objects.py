"""Where the object of an image is."""

from typing import NamedTuple

import torch
from torch import Tensor

from cuescope.data.images import Sample
from cuescope.data.ops.occlude import pixels_of
from cuescope.data.preprocessing import Preprocessing, frame, locate


def object_mask(sample: Sample, how: Preprocessing) -> Tensor | None:
    """Where is the object, (H, W) bool on the CPU, in the network's input? None if unknown or cut away.

    By the sample's mask, or else by the boxes of its first box's class, which is that of the label where it has one.

    >>> from cuescope.data.images import Box
    >>> boxes = (Box(0, 0, 2, 1, "cat"), Box(2, 0, 4, 2, "dog"))
    >>> object_mask(Sample("a", torch.zeros(3, 2, 4), boxes=boxes), Preprocessing((2, 2), 2))
    tensor([[ True, False],
            [False, False]])
    """
    if sample.mask is None:
        return _boxed(sample, how) if sample.boxes else None
    as_pixels = sample.mask.to(torch.uint8).mul(255).expand(3, -1, -1)
    seen = frame([Sample(sample.id, as_pixels, framing=sample.framing)], how)[0, 0] > 127
    return seen if seen.any() else None


def _boxed(sample: Sample, how: Preprocessing) -> Tensor | None:
    shape, seen = (sample.pixels.shape[1], sample.pixels.shape[2]), torch.zeros(how.size, dtype=torch.bool)
    for box in sample.boxes:
        if box.name != sample.boxes[0].name:
            continue
        # What is left of a box that the crop cuts is what can be seen of the object.
        if place := pixels_of(locate(box, shape, how, sample.framing), *how.size, least=0.0):
            seen[place.top : place.bottom, place.left : place.right] = True
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
