"""Images whose objects are marked, each with a box and maybe a mask: what a detector learns from and is tried on."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cuescope.data.images import Box, ImageSet, Sample, Skipped, UnreadableError
from cuescope.data.readers.decode import decode


@dataclass(frozen=True)
class Thing:
    """One object: its box, with the name of its class, in pixels of the image as its annotation says it is.

    Of a `crowd` nothing is learned, and what is found in it counts neither way: COCO's crowd regions, VOC's objects
    that are marked as difficult. `area` is what the annotation says, 0 where it does not; `outline` is what `mask_of`
    of the set makes a mask of.
    """

    box: Box
    crowd: bool = False
    area: float = 0.0
    outline: object = None


@dataclass(frozen=True)
class Entry:
    """An image that is listed: its id, its file, the (width, height) that its annotation says, its objects."""

    id: str
    path: Path
    size: tuple[float, float]
    things: tuple[Thing, ...]


class MarkedImages(ImageSet):
    """Images with marked objects, in the order of their list. `mask_of` is (H, W) bool of a thing of an entry.

    A `Sample` has the boxes without crowds; `things` has all. An image of another size than its annotation says cannot
    be used.
    """

    knows = frozenset({"boxes"})

    def __init__(
        self,
        name: str,
        entries: Sequence[Entry],
        mask_of: Callable[[Entry, Thing], Tensor],
        notes: Mapping[str, int],
        skipped: Sequence[Skipped],
    ) -> None:
        self.name, self.entries, self.mask_of = name, tuple(entries), mask_of
        self.notes = tuple(note for note, count in notes.items() if count)
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        return len(self.entries)

    def id(self, index: int) -> str:
        return self.entries[index].id

    def label(self, index: int) -> int | None:
        return None

    def things(self, index: int) -> tuple[Thing, ...]:
        return self.entries[index].things

    def masks(self, index: int) -> Tensor:
        """(n, H, W) bool, of each thing of an image."""
        entry = self.entries[index]
        masks = [self.mask_of(entry, thing) for thing in entry.things]
        return torch.stack(masks) if masks else torch.zeros(0, round(entry.size[1]), round(entry.size[0])).bool()

    def read(self, index: int) -> Sample:
        entry = self.entries[index]
        pixels = decode(entry.path)
        height, width = pixels.shape[1:]
        if (width, height) != entry.size:
            size = "{:g} x {:g} px".format(*entry.size)
            raise UnreadableError(f"it has {width} x {height} px, its annotation is of {size}")
        return Sample(entry.id, pixels, boxes=tuple(thing.box for thing in entry.things if not thing.crowd))

    def only(self, at: Sequence[int], name: str = "") -> MarkedImages:
        """The images at these places."""
        part = MarkedImages(name or self.name, [self.entries[i] for i in at], self.mask_of, {}, self.skipped)
        part.notes = self.notes
        return part

    def without(self, names: frozenset[str]) -> MarkedImages:
        """The same images without the objects of these classes."""
        kept = [
            replace(entry, things=tuple(thing for thing in entry.things if thing.box.name not in names))
            for entry in self.entries
        ]
        other = MarkedImages(self.name, kept, self.mask_of, {}, self.skipped)
        other.notes = self.notes
        return other

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = hashlib.blake2b(digest_size=16)
        for entry in self.entries:
            try:
                status = os.stat(entry.path)  # noqa: PTH116 - a hundred thousand files
                at = status.st_size, status.st_mtime_ns
            except OSError:
                at = (-1, -1)
            about = [(thing.box, thing.crowd, thing.area) for thing in entry.things]
            total.update(repr((entry.id, at, entry.size, about)).encode())
        return total.hexdigest()


def names_of(images: MarkedImages) -> tuple[str, ...]:
    """The classes of all objects but crowds, in alphabetical order."""
    return tuple(sorted({thing.box.name for entry in images.entries for thing in entry.things if not thing.crowd}))
