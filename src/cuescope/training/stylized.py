"""Stylized versions of images to learn from, by themselves or beside the images (Geirhos et al. 2019)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample
from cuescope.data.readers.versions import Versions, read_versions
from cuescope.training.settings import StylizedNetwork


class StylizedImages(ImageSet):
    """The stylized versions of images, so often, with the images' labels; after them, where asked for, the images."""

    def __init__(self, versions: Versions, originals: bool, repeats: int = 1) -> None:
        self.versions, self.originals, self.repeats = versions, originals, repeats
        self.stylized = len(versions) * repeats
        self.name, self.classes = versions.name + (" and originals" if originals else ""), versions.classes
        self.knows, self.notes, self.skipped = versions.knows - {"stylized"}, versions.notes, versions.skipped

    def __len__(self) -> int:
        return self.stylized + len(self.versions) * self.originals

    def id(self, index: int) -> str:
        time, place = divmod(index, len(self.versions))
        which = self.versions.id(place)
        return f"stylized{f'-{time + 1}' if time else ''}/{which}" if time < self.repeats else which

    def label(self, index: int) -> int | None:
        return self.versions.label(index % len(self.versions))

    def read(self, index: int) -> Sample:
        place = index % len(self.versions)
        if index < self.stylized:
            return Sample(self.id(index), self.versions.version(place), self.label(index))
        return self.versions.images.read(self.versions.at[place])

    @property
    def digest(self) -> str:
        told = f"{self.versions.digest} {self.originals} {self.repeats}"
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def stylized_images(
    images: ImageSet, learned: NDArray[np.int64], settings: StylizedNetwork
) -> tuple[StylizedImages, NDArray[np.int64], NDArray[np.int64]]:
    """The set to learn from in place of the images `learned`, its images' indices, and of each that of its original.

    No version of an image that is held back is among them. Raises CueError where there are no stylized versions.
    """
    if not settings.stylized:
        found, do = "no stylized images", f"make them: cuescope make stylized {images.name} FOLDER --styles STYLES"
        raise CueError(found, wanted="--set stylized=FOLDER", do=do)
    versions = read_versions(images, "stylized", settings.stylized)
    of = np.asarray(versions.at, np.int64)
    at = np.flatnonzero(np.isin(of, learned))
    if not len(at):
        found = f"'{settings.stylized}' has no version of an image to learn from"
        raise CueError(found, wanted="versions of all images", do="make them of all images")
    times = settings.repeats + settings.originals
    whole = np.concatenate([at + k * len(of) for k in range(times)])
    return StylizedImages(versions, settings.originals, settings.repeats), whole, np.tile(of[at], times)
