"""The world's images: congruent, conflict and other variants, each a function of the seed and its number alone."""

import hashlib
from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError, unknown
from cuescope.data.images import Box, ImageSet, Sample
from cuescope.world.draw import SIZE_PX, draw
from cuescope.world.scenes import Placement, Variant, scene, silhouette_parts
from cuescope.world.shapes import NAMES

CLASSES = ClassSpace("cuescope-world", NAMES)
"""The 16 classes, named by their silhouettes; the texture "fish" is the one that congruent fish have."""
VERSION = 1
"""Goes up whenever the same seed draws other pixels."""
_KNOWS = frozenset({"label", "shape", "texture", "boxes", "mask", "parts", "regions"})
_UNKNOWN = {"shape-only": {"texture"}, "texture-only": {"shape", "parts"}}


class WorldImages(ImageSet):
    """What would a classifier say if we knew everything about the image? 64 px RGB images with their truth.

    `variant` says which cues tell the class:

    - "congruent": shape i with texture i, as in photographs where both cues agree;
    - "conflict": shape i with texture j, i != j; any 240 in a row hold every pair once; the label is the shape;
    - "crossed": every shape with every texture, the same one included; any 256 in a row hold every pair once;
    - "shape-only": plain silhouettes; "texture-only": the texture in a blob that resembles no class;
    - "several": two to four congruent objects with a box each; label, mask and parts are those of the largest, labels
      those of all.

    `placement` is "centered", as a photographer would, or "uniform" over the frame. Image i is the same in any batch;
    variants of one seed share place, size, turn and colors, so that image i of two variants differs in its cues only.
    Color, size and background are independent of the class.

    >>> images = WorldImages("conflict", count=240)
    >>> sample = images.read(17)
    >>> sample.cues["shape"], sample.cues["texture"], tuple(sample.pixels.shape)
    ('bolt', 'crescent', (3, 64, 64))
    """

    def __init__(
        self, variant: Variant = "congruent", *, placement: Placement = "uniform", count: int = 960, seed: int = 0
    ) -> None:
        if variant not in get_args(Variant):
            raise unknown("world variant", variant, get_args(Variant))
        if placement not in get_args(Placement):
            raise unknown("placement", placement, get_args(Placement))
        if count < 0 or seed < 0:
            raise CueError(f"a world of {count} images with seed {seed}", wanted="numbers of 0 or more")
        self.variant: Variant = variant
        self.placement: Placement = placement
        self.count, self.seed = count, seed
        self.name = f"world-{variant}"
        self.classes = CLASSES
        self.knows = (_KNOWS | ({"labels"} if variant == "several" else set())) - _UNKNOWN.get(variant, set())
        self.notes = (f"drawn by cuescope's world {VERSION}: {variant}, {placement} placement, seed {seed}",)

    def __repr__(self) -> str:
        return f"WorldImages({self.variant!r}, placement={self.placement!r}, count={self.count}, seed={self.seed})"

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> str:
        return f"{self.variant}-{index:06d}"

    @property
    def digest(self) -> str:
        text = f"{CLASSES.name} {VERSION} {self.variant} {self.placement} {self.count} {self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()

    def label(self, index: int) -> int:
        return int(scene(self.variant, self.placement, self.seed, np.array([index], dtype=np.int64)).label[0])

    def render(self, indices: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Many images at once: (B, 3, 64, 64) uint8 and (B,) int64 labels, the same pixels that `read` gives."""
        drawn = scene(self.variant, self.placement, self.seed, np.asarray(indices, dtype=np.int64))
        return draw(drawn.backdrop, drawn.things)[0], torch.from_numpy(drawn.label)

    def read(self, index: int) -> Sample:
        """One image and all that is known of it. Raises IndexError beyond the end."""
        if not 0 <= index < self.count:
            raise IndexError(f"image {index} of {self.count}")
        drawn = scene(self.variant, self.placement, self.seed, np.array([index], dtype=np.int64))
        pixels, seen = draw(drawn.backdrop, drawn.things)
        # Painted last, the main object is listed first.
        present = [i for i in reversed(range(len(drawn.things))) if drawn.things[i].present[0]]
        parts = silhouette_parts(drawn.things[-1]) if "parts" in self.knows else {}
        named = [int(drawn.things[i].named[0]) for i in present]
        several = {"labels": tuple(dict.fromkeys(named)), "labels_from": "the world's objects"}
        return Sample(
            id=self.id(index),
            pixels=pixels[0],
            label=int(drawn.label[0]),
            **(several if "labels" in self.knows else {}),
            cues={cue: NAMES[int(which[0])] for cue, which in drawn.cues.items()},
            boxes=tuple(_box_of(seen[0, i], NAMES[k]) for i, k in zip(present, named, strict=True)),
            mask=seen[0, -1],
            parts={part: _box_of_points(points, part) for part, points in parts.items()},
            framing="stimulus",
        )


def _box_of(mask: Tensor, name: str) -> Box:
    rows, columns = torch.nonzero(mask.any(1))[:, 0], torch.nonzero(mask.any(0))[:, 0]
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1), name)


def _box_of_points(points: NDArray[np.float64], name: str) -> Box:
    low, high = points.min(0).clip(0, SIZE_PX), points.max(0).clip(0, SIZE_PX)
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]), name)
