"""Batches for the training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
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
