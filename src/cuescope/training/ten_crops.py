"""What is gained by asking more often: ten crops of each image, several networks (Zeiler and Fergus 2014, table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cuescope.data.images import ImageSet, Sample
from cuescope.data.preprocessing import Preprocessing, frame

BATCH = 64


def ten_crops(squares: Tensor, size_px: int) -> Tensor:
    """(B, 10, 3, size, size) of squares (B, 3, S, S): the four corners and the middle, then these mirrored.

    >>> ten_crops(torch.zeros(2, 3, 256, 256), 224).shape
    torch.Size([2, 10, 3, 224, 224])
    """
    room = squares.shape[-1] - size_px
    corners = ((room // 2, room // 2), (0, 0), (0, room), (room, 0), (room, room))
    crops = [squares[..., top : top + size_px, left : left + size_px] for top, left in corners]
    return torch.stack([*crops, *(crop.flip(-1) for crop in crops)], 1)


class Averaged(NamedTuple):
    """Class probabilities (N, K) float32 of images: of the crop of the middle, and the mean over ten crops."""

    single: NDArray[np.float32]
    ten: NDArray[np.float32]
    labels: NDArray[np.int64]

    def accuracy(self) -> tuple[float, float]:
        """The share that is right on the single crop, and on ten."""
        return float((self.single.argmax(1) == self.labels).mean()), float((self.ten.argmax(1) == self.labels).mean())


def averaged(networks: Sequence[nn.Module], images: ImageSet, how: Preprocessing) -> Averaged:
    """How sure are these networks of each class, together? The mean of their probabilities, as an ensemble.

    `networks` take images that are normalized as `how` says, of the size that it says, and have the classes of the
    images, as trainings of one recipe from several seeds do. Each image is cut as a photograph is: its short side is
    resized to `how.resize`, the square of the middle cut out. Images without a label are left out.

    >>> from cuescope.world.images import WorldImages
    >>> from cuescope.world.models import MEAN, STD, load_world
    >>> how = Preprocessing((64, 64), 73, mean=MEAN, std=STD)
    >>> averaged([load_world("world-congruent")], WorldImages(count=4), how).ten.shape
    (4, 16)
    """
    side = how.resize if isinstance(how.resize, int) else min(how.resize)
    square = Preprocessing((side, side), side, how.interpolation)
    mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
    single, ten, labels = [], [], []
    groups = [list(range(i, min(i + BATCH, len(images)))) for i in range(0, len(images), BATCH)]
    for samples, _ in images.stream(groups):
        kept = [sample for _, sample in samples if sample.label is not None and sample.label >= 0]
        if not kept:
            continue
        squares = frame([Sample(sample.id, sample.pixels) for sample in kept], square)
        crops = (ten_crops(squares, how.size[0]).float() / 255 - mean) / std
        with torch.inference_mode():
            found = torch.stack([network(crops.flatten(0, 1)).softmax(1) for network in networks]).mean(0)
        found = found.unflatten(0, (len(kept), 10))
        single.append(found[:, 0])
        ten.append(found.mean(1))
        labels += [int(sample.label or 0) for sample in kept]
    return Averaged(torch.cat(single).numpy(), torch.cat(ten).numpy(), np.array(labels))
