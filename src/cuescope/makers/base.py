"""What a maker is: images in, new images or maps out."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.preprocessing import frame, usual

SIDE_PX = 224
"""Of what is made of photographs, where nothing else is said."""


class Piece(NamedTuple):
    """One file to write: of `images` images of the set from number `source` on, and its path in the folder.

    `key` is what the maker has to know of it besides, such as a distortion and its level, or the number of a style.
    """

    source: int
    file: str
    images: int = 1
    key: Any = None

    @property
    def sources(self) -> range:
        return range(self.source, self.source + self.images)


class Output(NamedTuple):
    """The bytes of a file, and its entry in the manifest.

    A function that gives the bytes is called in another thread, while the next pieces are made. Until then it keeps
    what it holds: pixels as uint8 on the CPU, not a tensor of the device.
    """

    data: bytes | Callable[[], bytes]
    about: Mapping[str, Any]


class Tools(NamedTuple):
    """What a maker works with: how a Classifier and an image set are found by name, and the device."""

    load: Callable[[str], Classifier]
    images: Callable[[str], ImageSet]
    device: torch.device


class Work:
    """A maker that is ready to run: all that can go wrong before the first image has been checked.

    `about` is what decides about the result beside the parameters and the images, such as digests of networks; `batch`
    how many `pieces` are best worked on at once; `outputs` what they are, as in "label maps"; `result` the file in the
    folder that takes the place of all pieces at the end; `labeled`, whether the new files have the labels of the
    images; `size_px` the side of the framed images (see `framed`).
    """

    about: Mapping[str, Any]
    pieces: Sequence[Piece]
    batch: int = 1
    outputs: str = "files"
    result: str = ""
    labeled: bool = True
    size_px: int | None = None

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Images of which nothing will be made, and why, as far as is known."""
        return self.pieces.skipped if isinstance(self.pieces, OneEach) else ()

    def apply(self, pieces: Sequence[Piece], samples: Sequence[Sample], images: list[Tensor]) -> Sequence[Output]:
        """The files of these pieces, one each, in order; `images` are framed, (3, H, W) uint8 of one shape."""
        raise NotImplementedError

    def frame(self, sample: Sample) -> Tensor:
        """The image (3, H, W) uint8 as `apply` takes it."""
        return framed(sample, self.size_px)

    def unfit(self, sample: Sample) -> str:
        """Why nothing can be made of this image, or ""."""
        return ""

    def make(self, pieces: Sequence[Piece], samples: Sequence[Sample]) -> Sequence[Output | Skipped]:
        """The file of each of these pieces, whose images are decoded, in order; for an image that is unfit, why.

        Pieces come in the same batches however often a run is stopped, less those whose images cannot be read. Where a
        piece has several images, `samples` are those of all pieces, one after the other.
        """
        found: dict[int, Output | Skipped] = {}
        images: dict[int, Tensor] = {}
        for i, sample in enumerate(samples):
            if why := self.unfit(sample):
                found[i] = Skipped(sample.id, why)
            else:
                same = i and samples[i - 1] is sample
                images[i] = images[i - 1] if same else self.frame(sample)
        for which in alike(images):
            outputs = self.apply([pieces[i] for i in which], [samples[i] for i in which], [images[i] for i in which])
            found |= dict(zip(which, outputs, strict=True))
        return [found[i] for i in range(len(samples))]

    def finish(self, folder: Path, entries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]] | None:
        """Write what comes of all pieces, each file atomically and the same each time.

        Returns the manifest's entries where other files take the pieces' place, whose hidden folder is removed then.
        """
        return None


class Maker(ABC):
    """Images to new images. A frozen dataclass whose fields are its parameters, plain values that JSON can hold.

    `what` is one line on what it makes, `reference` the paper and section; `version` goes up whenever the same
    parameters give other results. The class is its module's name in CamelCase: `makers/label_maps.py` holds
    `LabelMaps`, made by `cuescope make label-maps`.
    """

    what: ClassVar[str]
    reference: ClassVar[str]
    version: ClassVar[int]

    @abstractmethod
    def start(self, images: ImageSet, tools: Tools) -> Work:
        """Load and check all that is needed. Raises CueError for what the user can mend."""


class OneEach(Sequence[Piece]):
    """A file for each image, of its name with another suffix; an image whose file name is taken is skipped.

    With `variants` there are several of each image, side by side: pattern of the file's name without its suffix, such
    as "contrast/0.5/{}" or "{}-2", to the key of the piece.

    >>> from cuescope.world.images import WorldImages
    >>> OneEach(WorldImages(count=1), ".png", {"{}-1": "x", "{}-2": "y"})[1]
    Piece(source=0, file='congruent-000000-2.png', images=1, key='y')
    """

    def __init__(self, images: ImageSet, suffix: str, variants: Mapping[str, Any] | None = None) -> None:
        self.images, self.suffix = images, suffix
        self.variants = list((variants or {"{}": None}).items())
        taken: set[str] = set()
        self.sources: list[int] = []
        self.skipped: list[Skipped] = []
        for index in range(len(images)):
            file = self._stem(index) + suffix
            if file in taken:
                self.skipped.append(Skipped(images.id(index), f"'{file}' would be made of another image, too"))
            else:
                taken.add(file)
                self.sources.append(index)

    def __len__(self) -> int:
        return len(self.sources) * len(self.variants)

    def __getitem__(self, index: int) -> Piece:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        image, variant = divmod(index, len(self.variants))
        source, (pattern, key) = self.sources[image], self.variants[variant]
        return Piece(source, pattern.format(self._stem(source)) + self.suffix, key=key)

    def _stem(self, index: int) -> str:
        return os.path.splitext(self.images.id(index))[0]  # noqa: PTH122 - for a million names


def framed(sample: Sample, size_px: int | None = None) -> Tensor:
    """The image as a maker works on it: (3, H, W) uint8, square unless it is a stimulus of its own size.

    A photograph's short side is resized to 8/7 of `size_px`, 224 by default, and the middle cut out, as in a usual
    evaluation; a stimulus is resized to `size_px`, and without one keeps its size.

    >>> framed(Sample("a.jpg", torch.zeros(3, 300, 400, dtype=torch.uint8))).shape
    torch.Size([3, 224, 224])
    """
    if sample.framing == "stimulus" and size_px is None:
        return sample.pixels
    return frame([sample], usual(size_px or SIDE_PX))[0]


def alike(images: Mapping[int, Tensor]) -> list[list[int]]:
    """The keys of images of one shape, which can be stacked: shapes in the order in which they first appear."""
    found: dict[torch.Size, list[int]] = {}
    for key, pixels in images.items():
        found.setdefault(pixels.shape, []).append(key)
    return list(found.values())


def at_least(least: float, **values: float | None) -> None:
    """Raises CueError where a parameter is given and below what makes sense."""
    for name, value in values.items():
        if value is not None and value < least:
            raise CueError(f"{name} is {value}", wanted=f"at least {least}", do=f"correct {name}")


def share(what: str, alpha: float) -> None:
    """Raises CueError where `alpha` is no share of the style or texture."""
    if not 0 <= alpha <= 1:
        raise CueError(f"alpha is {alpha}", wanted=f"from 0 (no {what}) to 1 (all of it)", do="correct alpha")


def listed(text: str) -> list[str]:
    """What is separated by commas: "a, b," is a and b."""
    return [part.strip() for part in text.split(",") if part.strip()]
