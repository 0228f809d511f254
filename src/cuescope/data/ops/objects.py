"""Where the object of an image is."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cuescope.data.images import Sample


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
