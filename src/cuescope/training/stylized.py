"""Stylized versions of images to learn from, by themselves or beside the images (Geirhos et al. 2019)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample
from cuescope.data.readers.versions import Versions, read_versions
from cuescope.training.settings import StylizedNetwork


class StylizedImages(ImageSet):
    """The stylized versions of images, of one folder after the other, with the images' labels; then the images."""

    def __init__(self, versions: Sequence[Versions], originals: bool) -> None:
        first = versions[0]
        self.versions, self.originals = tuple(versions), originals
        # Where each folder's versions end, and the images begin.
        self.ends = np.cumsum([len(one) for one in versions])
        self.name, self.classes = first.name + (" and originals" if originals else ""), first.classes
        self.knows, self.skipped = first.knows - {"stylized"}, first.skipped
        self.notes = tuple(note for one in versions for note in one.notes)

    def __len__(self) -> int:
        return int(self.ends[-1]) + len(self.versions[0]) * self.originals

    def _place(self, index: int) -> tuple[int, Versions, int]:
        """The number of its folder, one more than there are of an image itself; the versions; its place in them."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        versions = self.versions[number] if number < len(self.versions) else self.versions[0]
        return number, versions, index - (int(self.ends[number - 1]) if number else 0)

    def id(self, index: int) -> str:
        number, versions, place = self._place(index)
        folder = "" if number == len(self.versions) else f"stylized-{number + 1}/" if number else "stylized/"
        return folder + versions.id(place)

    def label(self, index: int) -> int | None:
        _, versions, place = self._place(index)
        return versions.label(place)

    def read(self, index: int) -> Sample:
        number, versions, place = self._place(index)
        if number < len(self.versions):
            return Sample(self.id(index), versions.version(place), self.label(index))
        return versions.images.read(versions.at[place])

    @property
    def digest(self) -> str:
        told = " ".join([*(one.digest for one in self.versions), str(self.originals)])
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def stylized_images(
    images: ImageSet, learned: NDArray[np.int64], settings: StylizedNetwork
) -> tuple[StylizedImages, NDArray[np.int64], NDArray[np.int64]]:
    """The set to learn from in place of the images `learned`, its images' indices, and of each that of its original.

    No version of an image that is held back is among them. Raises CueError where there are no stylized versions.
    """
    folders = [folder.strip() for folder in settings.stylized.split(",") if folder.strip()]
    if not folders:
        found, do = "no stylized images", f"make them: cuescope make stylized {images.name} FOLDER --styles STYLES"
        raise CueError(found, wanted="--set stylized=FOLDER", do=do)
    versions = [read_versions(images, "stylized", folder) for folder in folders]
    whole = StylizedImages(versions, settings.originals)
    parts = [*versions, *versions[: settings.originals]]
    of = np.concatenate([np.asarray(one.at, np.int64) for one in parts])
    at = np.flatnonzero(np.isin(of, learned))
    if not len(at):
        found = f"'{settings.stylized}' has no version of an image to learn from"
        raise CueError(found, wanted="versions of all images", do="make them of all images")
    return whole, at, of[at]
