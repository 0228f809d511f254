"""Batches for the training loop."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cuescope.world.images import WorldImages


def mixed(sets: Sequence[WorldImages], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of world images that are never seen twice, an equal part from each set.

    The sets' `count` plays no role: images are drawn on and on.

    >>> images, labels = next(mixed([WorldImages("congruent"), WorldImages("shape-only")], batch=8))
    >>> tuple(images.shape), labels.tolist()
    ((8, 3, 64, 64), [0, 1, 2, 3, 0, 1, 2, 3])
    """
    share = batch // len(sets)
    start = 0
    while True:
        parts = [images.render(range(start, start + share)) for images in sets]
        yield torch.cat([pixels for pixels, _ in parts]), torch.cat([labels for _, labels in parts])
        start += share


def enlarged(batches: Iterable[tuple[Tensor, Tensor]], most_px: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, each enlarged by up to `most_px` (bilinear) and cut back to its size, each image at a random place.

    >>> batches = mixed([WorldImages("congruent")], batch=4)
    >>> next(enlarged(batches, most_px=8, seed=0))[0].shape
    torch.Size([4, 3, 64, 64])
    """
    chance = random.Random(seed)
    for images, labels in batches:
        height, width = images.shape[2:]
        more = chance.randint(0, most_px)
        wide = F.interpolate(images.float(), (height + more, width + more), mode="bilinear").round().to(torch.uint8)
        corners = [(chance.randint(0, more), chance.randint(0, more)) for _ in range(len(images))]
        cut = [wide[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(corners)]
        yield torch.stack(cut), labels
