"""Where the object of an image is."""

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


def largest_box(sample: Sample) -> tuple[float, float, float, float] | None:
    """The largest box inside the image: its center from the left and the top, its width and height, as shares.

    >>> from cuescope.data.images import Box
    >>> largest_box(Sample("a", torch.zeros(3, 10, 20), boxes=(Box(0, 0, 10, 5), Box(0, 0, 1, 1))))
    (0.25, 0.25, 0.5, 0.5)
    """
    _, height, width = sample.pixels.shape
    inside = [(max(b.x0, 0), max(b.y0, 0), min(b.x1, width), min(b.y1, height)) for b in sample.boxes]
    boxes = [(x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in inside if x1 > x0 and y1 > y0]
    if not boxes:
        return None
    x0, y0, x1, y1 = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
