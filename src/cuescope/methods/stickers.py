"""Patches cut out of one image and pasted into another: which one says most, and what the other becomes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.occlude import Occlude, Rectangle
from cuescope.methods.attribution.places import placed
from cuescope.methods.incremental import painted_logits
from cuescope.methods.relative_logits import relative


def squares(size: tuple[int, int], side_px: int, step_px: int | None = None) -> list[Rectangle]:
    """The places of a square in an image (H, W): half a side apart, or `step_px`, the last flush with the border.

    >>> len(squares((8, 8), 4)), squares((8, 8), 4)[-1]
    (9, Rectangle(top=4, left=4, bottom=8, right=8))
    """
    return Occlude(side_px, step_px or max(1, side_px // 2), (0.0, 0.0, 0.0)).grid(*size).rectangles


def top_squares(classifier: Classifier, pixels: Tensor, targets: Sequence[int], side_px: int) -> list[Rectangle]:
    """Of each image (B, 3, H, W) in [0, 1], the square that speaks most for its class in `targets`.

    Where the head averages a map, the one over which the evidence (the class logit at each position, against the mean
    of all classes) is the largest in sum; else the one that takes most of it away when covered with the mean color, of
    those side by side: each is a pass.
    """
    size = (pixels.shape[2], pixels.shape[3])
    if classifier.dense is None:
        places, color, found = squares(size, side_px, side_px), classifier.preprocessing.mean, []
        for image, target in zip(pixels, targets, strict=True):
            left = relative(painted_logits(classifier, image, places, color).logits)[:, target]
            found.append(places[int(left.argmin())])
        return found
    places = squares(size, side_px)
    maps = relative(classifier.dense_logits(pixels))
    found = []
    for image, target in zip(maps, targets, strict=True):
        evidence = placed(image[target], classifier.dense.field, size, size)
        sums = torch.stack([evidence[top:bottom, left:right].sum() for top, left, bottom, right in places])
        found.append(places[int(sums.argmax())])
    return found


def pasted(pixels: Tensor, places: Sequence[Rectangle], sticker: Tensor) -> Tensor:
    """An image (3, H, W) with the sticker (3, h, w) at each of these places of its size, (P, 3, H, W).

    >>> pasted(torch.zeros(3, 2, 2), [Rectangle(1, 1, 2, 2)], torch.ones(3, 1, 1))[0, 0].tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """
    out = pixels.repeat(len(places), 1, 1, 1)
    for image, (top, left, bottom, right) in zip(out, places, strict=True):
        image[:, top:bottom, left:right] = sticker
    return out


def blank(sticker: Tensor, color: Sequence[float]) -> Tensor:
    """A sticker of the same size in one color."""
    return torch.tensor(color, dtype=sticker.dtype, device=sticker.device)[:, None, None].expand_as(sticker)
