"""What a logit loses with parts of the image masked: with all of them together, and with each alone."""

import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.data.images import Batch
from cuescope.data.ops.occlude import Rectangle, means
from cuescope.methods.incremental import painted_logits
from cuescope.methods.relative_logits import relative


def masked_parts(height: int, width: int, part_px: int) -> list[Rectangle]:
    """Every second part of every second row, of those that lie in the image as a whole.

    >>> masked_parts(7, 5, 2)
    [Rectangle(top=0, left=0, bottom=2, right=2), Rectangle(top=4, left=0, bottom=6, right=2)]
    """
    tops, lefts = (range(0, side - part_px + 1, 2 * part_px) for side in (height, width))
    return [Rectangle(y, x, y + part_px, x + part_px) for y in tops for x in lefts]


def without(pixels: Tensor, parts: list[Rectangle]) -> Tensor:
    """An image (3, H, W) whose parts have their own mean color each."""
    masked = pixels.clone()
    for (top, left, bottom, right), paint in zip(parts, means(pixels, parts), strict=True):
        masked[:, top:bottom, left:right] = paint[:, None, None]
    return masked


def losses(
    classifier: Classifier, batch: Batch, i: int, parts: list[Rectangle], target: int, *, raw: bool = False
) -> tuple[float, float]:
    """What the target's logit loses with all parts masked together, and the sum of what it loses with each alone."""
    pixels = batch.pixels[i]
    paints, masked = means(pixels, parts), without(pixels, parts)
    # Each loss is of two logits computed the same way, so that what the ways differ by is not summed up.
    both = relative(torch.stack([batch.logits[i], classifier.logits(masked[None])[0]]).double(), raw)[:, target]
    painted = painted_logits(classifier, pixels, parts, paints)
    clean, alone = (relative(part.double(), raw)[:, target] for part in (painted.clean[None], painted.logits))
    return float(both[0] - both[1]), float((clean - alone).sum())
