"""What a maker is - images in, new images or maps out - and how makers are found by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.preprocessing import Preprocessing, frame

SIDE_PX = 224
"""Of what is made of photographs, where nothing else is said."""


class Piece(NamedTuple):
    """One file to be made: of which image of the set, or of `images` from that one on, and its path in the folder."""

    source: int
    file: str
    images: int = 1

    @property
    def sources(self) -> range:
        return range(self.source, self.source + self.images)


class Made(NamedTuple):
    """A file that was made: its bytes, and what there is to tell of it in the manifest.

    A function that gives the bytes is called in another thread, while the next pieces are made.
    """

    data: bytes | Callable[[], bytes]
    about: Mapping[str, Any]


class Tools(NamedTuple):
    """What a maker is lent: what finds a Classifier and an image set by name, and the device to work on."""

    load: Callable[[str], Classifier]
    images: Callable[[str], ImageSet]
    device: torch.device


class Work(Protocol):
    """A maker that is ready: all that can go wrong before the first image has been checked."""

    about: Mapping[str, Any]
    """What decides about the result beside the parameters and the images: digests of networks, say."""
    batch: int
    """How many pieces are best made at once."""
    pieces: Sequence[Piece]
    """What is to be made, in order."""
    skipped: Sequence[Skipped]
    """Images that nothing will be made of, and why."""

    def make(self, pieces: Sequence[Piece], samples: Sequence[Sample]) -> Sequence[Made | Skipped]:
        """The files of these pieces, whose images are decoded, in order; of a piece of several those that could be.

        For an image that will not do, why. Pieces come in the same batches however often a run is stopped, less those
        whose images cannot be read.
        """
        ...


@runtime_checkable
class Finishes(Protocol):
    """A Work with something left to do when all pieces are made, such as one file of them all."""

    what: str
    """What was made of each image, as in "label maps"."""
    result: str
    """The file in the folder that takes the place of all pieces; "" where they stay."""

    def finish(self, folder: Path, entries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]] | None:
        """Write what is made of all pieces, each file atomically and the same each time.

        The manifest's entries, where other files took the pieces' place: `made.PARTS` is removed then; else None.
        """
        ...


@runtime_checkable
class Maker(Protocol):
    """Images to new images. A frozen dataclass whose fields are its parameters, plain values that JSON can hold.

    `what` is one line on what it makes, `reference` the paper and section; `version` goes up whenever the same
    parameters give other results. The class is its module's name in CamelCase: `makers/label_maps.py` holds
    `LabelMaps`, made by `cuescope make label-maps`.
    """

    what: ClassVar[str]
    reference: ClassVar[str]
    version: ClassVar[int]

    def start(self, images: ImageSet, tools: Tools) -> Work:
        """Load and check all that is needed. Raises CueError for what the user can mend."""
        ...


class OneEach(Sequence[Piece]):
    """A file for each image, of its name with another suffix; an image whose file name is taken is skipped.

    >>> class Photos(ImageSet):
    ...     names, name, digest = ("cat/a.jpg", "cat/b.jpg", "cat/a.gif"), "photos", ""
    ...     def __len__(self): return len(self.names)
    ...     def id(self, index): return self.names[index]
    ...     def read(self, index): raise NotImplementedError
    >>> pieces = OneEach(Photos(), ".png")
    >>> [piece.file for piece in pieces], pieces.skipped[0].why
    (['cat/a.png', 'cat/b.png'], "'cat/a.png' would be made of another image, too")
    """

    def __init__(self, images: ImageSet, suffix: str) -> None:
        self.images, self.suffix = images, suffix
        taken: set[str] = set()
        self.sources: list[int] = []
        self.skipped: list[Skipped] = []
        for index in range(len(images)):
            file = self._file(index)
            if file in taken:
                self.skipped.append(Skipped(images.id(index), f"'{file}' would be made of another image, too"))
            else:
                taken.add(file)
                self.sources.append(index)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Piece:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        return Piece(self.sources[index], self._file(self.sources[index]))

    def __iter__(self) -> Iterator[Piece]:
        return (Piece(source, self._file(source)) for source in self.sources)

    def _file(self, index: int) -> str:
        return os.path.splitext(self.images.id(index))[0] + self.suffix  # noqa: PTH122 - for a million names


def framed(sample: Sample, size_px: int | None = None) -> Tensor:
    """The image as a maker works on it: (3, H, W) uint8, square unless it is a stimulus of its own size.

    A photograph's short side is resized to 8/7 of `size_px`, 224 by default, and the middle cut out, as in a usual
    evaluation; a stimulus is resized to `size_px`, and without one keeps its size.

    >>> framed(Sample("a.jpg", torch.zeros(3, 300, 400, dtype=torch.uint8))).shape
    torch.Size([3, 224, 224])
    """
    if sample.framing == "stimulus" and size_px is None:
        return sample.pixels
    side = size_px or SIDE_PX
    return frame([sample], Preprocessing((side, side), max(side, round(side * 8 / 7)), source="the usual one"))[0]


def alike(images: Sequence[Tensor]) -> list[list[int]]:
    """Positions of images of one shape, which can be stacked: shapes in the order in which they first appear.

    >>> alike([torch.zeros(3, 4, 4), torch.zeros(3, 4, 5), torch.zeros(3, 4, 4)])
    [[0, 2], [1]]
    """
    found: dict[torch.Size, list[int]] = {}
    for i, pixels in enumerate(images):
        found.setdefault(pixels.shape, []).append(i)
    return list(found.values())


def seed_of(seed: int, image: str) -> int:
    """A seed of its own for each image, so that neither order nor company matter.

    >>> seed_of(0, "cat/a.jpg") == seed_of(0, "cat/a.jpg") != seed_of(0, "cat/b.jpg")
    True
    """
    digest = hashlib.blake2b(f"{seed} {image}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def at_least(name: str, value: float, least: float) -> None:
    """Raises CueError where a parameter is below what makes sense."""
    if value < least:
        raise CueError(f"{name} is {value}", wanted=f"at least {least}", do=f"correct {name}")
