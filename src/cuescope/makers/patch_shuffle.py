"""Images cut into tiles that trade places: what is near stays near, and the whole is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.images import ImageSet, Sample
from cuescope.data.ops.encode import encoded
from cuescope.data.ops.tilings import Rule, shuffled
from cuescope.makers.base import Maker, OneEach, Output, Piece, Tools, Work, at_least


@dataclass(frozen=True)
class PatchShuffle(Maker):
    """Each image with its tiles in other places."""

    what: ClassVar[str] = "each image cut into tiles that trade places"
    reference: ClassVar[str] = "Burgert et al. 2025, ImageNet-trained CNNs are not biased towards texture, section 3"
    version: ClassVar[int] = 1

    grid: int = 3
    """Tiles along a side: 3 takes away global shape, 6 local shape too."""
    rule: Rule = "published"
    """published: only tiles of equal size trade places, at 224 px 4 of 3 x 3 stay on average; full: all do."""
    size_px: int | None = None
    """Side of the images: a photograph's short side is resized to 8/7 of it, the middle cut out. 224; a stimulus
    keeps its own."""
    seed: int = 0
    """Of the places. Each image has its own, of this and its name."""

    def __post_init__(self) -> None:
        at_least(2, grid=self.grid)
        at_least(1, size_px=self.size_px)
        at_least(0, seed=self.seed)

    def start(self, images: ImageSet, tools: Tools) -> "_Shuffling":
        if self.size_px is not None and self.size_px < 2 * self.grid:
            wanted = f"at least {2 * self.grid} px for {self.grid} tiles along a side"
            raise CueError(f"size_px is {self.size_px}", wanted=wanted, do="correct size_px or grid")
        return _Shuffling(self, images)


class _Shuffling(Work):
    """PatchShuffle, ready to run."""

    def __init__(self, how: PatchShuffle, images: ImageSet) -> None:
        self.how, self.about, self.size_px = how, {}, how.size_px
        self.pieces = OneEach(images, ".png")

    def unfit(self, sample: Sample) -> str:
        side = min(sample.pixels.shape[1:]) if self.size_px is None and sample.framing == "stimulus" else None
        small = side is not None and side < 2 * self.how.grid
        return f"it has {side} px, too few for {self.how.grid} tiles along a side" if small else ""

    def apply(self, pieces: Sequence[Piece], samples: Sequence[Sample], images: list[Tensor]) -> list[Output]:
        outputs = []
        for sample, image in zip(samples, images, strict=True):
            seed = seed_of(self.how.seed, sample.id)
            found = shuffled(image[None], self.how.grid, [np.random.default_rng(seed)], self.how.rule)[0]
            outputs.append(Output(partial(encoded, found), {"seed": seed}))
        return outputs
