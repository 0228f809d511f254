"""Images made harder, level by level, as people and networks were shown them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.images import ImageSet, Sample
from cuescope.data.ops import corruptions
from cuescope.data.ops.distortions import OURS, Distortion, Plane, amplitudes_of, distort, find, gray, level_text
from cuescope.data.ops.encode import encoded
from cuescope.makers.base import Maker, OneEach, Output, Piece, Tools, Work, at_least, listed

Condition = tuple[Distortion, float]


@dataclass(frozen=True)
class Distorted(Maker):
    """Each image at each level of each distortion, in folders DISTORTION/LEVEL."""

    what: ClassVar[str] = "each image at each level of distortions: noise, low contrast, blur, rotation and more"
    reference: ClassVar[str] = (
        "Geirhos et al. 2018, Generalisation in humans and deep neural networks; Hendrycks and Dietterich 2019 "
        "(ImageNet-C)"
    )
    version: ClassVar[int] = 1

    kinds: str = ",".join(distortion.name for distortion in OURS)
    """Distortions, separated by commas; also salt-and-pepper, false-color and power-equalization, and eidolon (three)
    and imagenet-c (fifteen) where their packages are."""
    levels: str = ""
    """Of each of these distortions, separated by commas; all published ones by default."""
    size_px: int | None = None
    """Side of the images: a photograph's short side is resized to 8/7 of it, the middle cut out. 224; a stimulus
    keeps its own."""
    seed: int = 0
    """Of the noise. Each image has its own at each level, of this, the distortion, the level and its name."""

    def __post_init__(self) -> None:
        at_least(0, seed=self.seed)
        at_least(1, size_px=self.size_px)
        self.conditions()

    def conditions(self) -> list[Condition]:
        """Every distortion with every level of it. Raises CueError for an unknown one, and a level it does not have."""
        asked = [_number(text) for text in listed(self.levels)]
        found = []
        for distortion in find(self.kinds):
            for level in dict.fromkeys(asked or distortion.levels):
                distortion.check(level)
                found.append((distortion, level))
        return found

    def start(self, images: ImageSet, tools: Tools) -> "_Distorting":
        return _Distorting(self, images)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CueError(f"level '{text}'", wanted="numbers, separated by commas", do="correct --levels") from None


class _Distorting(Work):
    """Distorted, ready to run."""

    def __init__(self, how: Distorted, images: ImageSet) -> None:
        self.seed, self.size_px, conditions = how.seed, how.size_px, how.conditions()
        self.images, self.equalized = images, {d.name for d, _ in conditions if d.equalize is not None}
        self.about = _packages(conditions)
        # All of one image in a row, so that it is decoded once.
        self.pieces = OneEach(images, ".png", {f"{d.name}/{level_text(x)}/{{}}": (d.name, x) for d, x in conditions})
        self.batch = len(conditions)

    def apply(self, pieces: Sequence[Piece], samples: Sequence[Sample], images: list[Tensor]) -> list[Output]:
        outputs = []
        for piece, sample, image in zip(pieces, samples, images, strict=True):
            name, level = piece.key
            seed = seed_of(self.seed, f"{name}/{level_text(level)}/{sample.id}")
            about = {"distortion": name, "level": level_text(level), "seed": seed}
            amplitudes = self.amplitudes[image.shape[1:]] if name in self.equalized else None
            made = distort(image.double() / 255, name, level, seed, amplitudes)
            outputs.append(Output(partial(encoded, made), about))
        return outputs

    @cached_property
    def amplitudes(self) -> Mapping[Sequence[int], Plane]:
        """The mean amplitudes of all images that can be read, by their shape."""
        total: dict[Sequence[int], Plane] = {}
        count: dict[Sequence[int], int] = {}
        for samples, _ in self.images.stream([[i] for i in range(len(self.images))]):
            for _, sample in samples:
                image = self.frame(sample)
                shape = image.shape[1:]
                total[shape] = total.get(shape, np.zeros(shape)) + amplitudes_of(gray(image.double() / 255))
                count[shape] = count.get(shape, 0) + 1
        return {shape: amplitudes / count[shape] for shape, amplitudes in total.items()}


def _packages(conditions: Sequence[Condition]) -> Mapping[str, Any]:
    """The versions of the packages that are needed. Raises CueError now where one is not there, not after an hour."""
    sources = {distortion.name.partition("-")[0] for distortion, _ in conditions}
    about: dict[str, Any] = {"packages": corruptions.about_corrupting()} if "imagenet" in sources else {}
    if "eidolon" in sources:
        about["eidolon"] = str(corruptions.disarraying()[0].__name__)
    return about
