"""Recompute only what a changed rectangle of pixels can reach: the logits of an image occluded at many places.

As in Krypton (Nakandala, Kumar & Papakonstantinou 2019, "Incremental and approximate inference for faster
occlusion-based deep CNN explanations"), but without any approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.occlude import Color, Rectangle, colors, cover
from cuescope.methods.incremental.graph import checked
from cuescope.methods.incremental.network import IncrementalNetwork


class Painted(NamedTuple):
    """Logits of an image, (K,), and with each of its rectangles painted over, (P, K); float32 on the CPU."""

    clean: Tensor
    logits: Tensor
    why_plain: str
    """Why each image had to go through the whole network; empty where it was done incrementally."""


def painted_logits(classifier: Classifier, pixels: Tensor, rectangles: Sequence[Rectangle], color: Color) -> Painted:
    """What are the logits of an image with one rectangle painted over, for many rectangles?

    `pixels` is (3, H, W) in [0, 1] as `Classifier.prepare` gives them, `color` the red, green and blue of the paint
    in [0, 1], (3,), or (P, 3) with one for each rectangle. The logits are those of whole forward passes (tested to
    1e-4 of the largest in float32), which is also how they are computed for a black box, on a GPU, for a network that
    torch.fx cannot trace, and for one on whose first image the two ways differ.
    """
    paints = colors(color, len(rectangles))

    def incremental(way: IncrementalNetwork, some: slice = slice(None)) -> Logits:
        normalized = classifier.normalize(paints[some, :, None, None])[:, :, 0, 0]
        return way.logits(classifier.normalize(pixels[None]), rectangles[some], normalized)

    def plain(some: slice = slice(None)) -> Logits:
        return _plain(classifier, pixels, rectangles[some], paints[some])

    def find_way() -> IncrementalNetwork | str:
        """An incremental network that gives what whole passes give for two of the rectangles, or why there is none."""
        step = max(1, len(rectangles) // 2)
        two = slice(0, 2 * step, step)
        failing, differing = "its graph cannot be run on patches", "its graph gives other logits, by"
        build = IncrementalNetwork
        return checked(classifier, build, lambda way: incremental(way, two), lambda: plain(two), failing, differing)

    way = classifier.known("incremental", find_way)
    return Painted(*plain(), way) if isinstance(way, str) else Painted(*incremental(way), "")


Logits = tuple[Tensor, Tensor]


def _plain(classifier: Classifier, pixels: Tensor, rectangles: Sequence[Rectangle], paints: Tensor) -> Logits:
    """Whole passes; the images are painted a batch at a time, so that memory does not grow with their number."""
    clean, size = classifier.logits(pixels[None]), classifier.batch_size
    groups = [slice(i, i + size) for i in range(0, len(rectangles), size)]
    covered = (cover(pixels, rectangles[group], paints[group]) for group in groups)
    return clean[0], torch.cat([clean[:0], *(classifier.logits(images) for images in covered)])
