"""Images made harder, level by level, as people and networks were shown them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.ops import corruptions
from cuescope.data.ops.distortions import OURS, Distortion, distort, find, level_text
from cuescope.data.ops.encode import encoded
from cuescope.makers.base import SIDE_PX, Made, OneEach, Piece, Tools, at_least, framed, seed_of

Condition = tuple[Distortion, float]


@dataclass(frozen=True)
class Distorted:
    """Each image at each level of each distortion, in folders DISTORTION/LEVEL.

    >>> Distorted(kinds="contrast,rotation").seed
    0
    """

    what: ClassVar[str] = "each image at each level of distortions: noise, low contrast, blur, rotation and more"
    reference: ClassVar[str] = (
        "Geirhos et al. 2018, Generalisation in humans and deep neural networks; Hendrycks and Dietterich 2019 "
        "(ImageNet-C)"
    )
    version: ClassVar[int] = 1

    kinds: str = ",".join(distortion.name for distortion in OURS)
    """Distortions, separated by commas; also eidolon (three) and imagenet-c (fifteen) where their packages are."""
    levels: str = ""
    """Of each of these distortions, separated by commas; all published ones by default."""
    size_px: int | None = None
    """Side of the images: a photograph's short side is resized to 8/7 of it, the middle cut out. 224; a stimulus
    keeps its own."""
    seed: int = 0
    """Of the noise. Each image has its own at each level, of this, the distortion, the level and its name."""

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        at_least("size_px", SIDE_PX if self.size_px is None else self.size_px, 1)
        self.conditions()

    def conditions(self) -> list[Condition]:
        """Every distortion with every level of it. Raises CueError for an unknown one, and a level it does not have."""
        asked = [_number(text) for text in self.levels.split(",") if text.strip()]
        found = []
        for distortion in find(self.kinds):
            for level in dict.fromkeys(asked or distortion.levels):
                distortion.check(level)
                found.append((distortion, level))
        return found

    def start(self, images: ImageSet, tools: Tools) -> _Distorting:
        return _Distorting(self, images)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CueError(
            f"level '{text.strip()}'", wanted="numbers, separated by commas", do="correct --levels"
        ) from None


class _Distorting:
    """Distorted, ready to go: the packages are there, the files named."""

    def __init__(self, how: Distorted, images: ImageSet) -> None:
        self.how, self.conditions = how, how.conditions()
        self.about = _packages(self.conditions)
        one_each = OneEach(images, ".png")
        self.pieces = _Grid(one_each, self.conditions)
        self.skipped: Sequence[Skipped] = one_each.skipped
        self.batch = len(self.conditions)

    def make(self, pieces: Sequence[Piece], samples: Sequence[Sample]) -> list[Made]:
        seen: dict[int, Tensor] = {}
        made = []
        for piece, sample in zip(pieces, samples, strict=True):
            if piece.source not in seen:
                seen[piece.source] = framed(sample, self.how.size_px).double() / 255
            distortion, level = self.pieces.condition(piece.file)
            seed = seed_of(self.how.seed, f"{distortion.name}/{level_text(level)}/{sample.id}")
            pixels = distort(seen[piece.source], distortion.name, level, seed)
            about = {"distortion": distortion.name, "level": level_text(level), "seed": seed}
            made.append(Made(partial(encoded, pixels), about))
        return made


class _Grid(Sequence[Piece]):
    """A file for each image and condition, all of one image in a row, so that it is decoded once."""

    def __init__(self, one_each: OneEach, conditions: Sequence[Condition]) -> None:
        self.one_each = one_each
        self.by_folder = {
            f"{distortion.name}/{level_text(level)}": (distortion, level) for distortion, level in conditions
        }
        self.folders = list(self.by_folder)

    def condition(self, file: str) -> Condition:
        name, level, _ = file.split("/", 2)
        return self.by_folder[f"{name}/{level}"]

    def __len__(self) -> int:
        return len(self.one_each) * len(self.folders)

    def __getitem__(self, index: int) -> Piece:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        image, folder = divmod(index, len(self.folders))
        return self._piece(self.one_each[image], self.folders[folder])

    def __iter__(self) -> Iterator[Piece]:
        return (self._piece(piece, folder) for piece in self.one_each for folder in self.folders)

    def _piece(self, piece: Piece, folder: str) -> Piece:
        return Piece(piece.source, f"{folder}/{piece.file}")


def _packages(conditions: Sequence[Condition]) -> Mapping[str, Any]:
    """The versions of the packages that are needed. Raises CueError now where one is not there, not after an hour."""
    about: dict[str, Any] = {}
    names = [distortion.name for distortion, _ in conditions]
    if any(name.startswith("imagenet-c-") for name in names):
        about["packages"] = corruptions.about_corrupting()
    if any(name.startswith("eidolon-") for name in names):
        about["eidolon"] = str(corruptions.disarraying()[0].__name__)
    return about
