"""Images with those of another set behind them, so that the two can be compared."""

from __future__ import annotations

import hashlib
from functools import cached_property

from cuescope.data.images import ImageSet, Sample

OWN, OTHER = "images", "training"
"""What `Sample.cues["origin"]` says of the images themselves, and of those behind them."""


class Beside(ImageSet):
    """The images of one set, then those of another, which are told by `cues["origin"]`; without labels.

    Names of the second have its own name and a slash before them.
    """

    def __init__(self, images: ImageSet, others: ImageSet) -> None:
        self.images, self.others = images, others
        self.name, self.classes, self.knows = f"{images.name} beside {others.name}", None, frozenset({"training"})
        self.notes = (f"{len(images):,} images of {images.name}, then {len(others):,} of {others.name}",)
        self.skipped = (*images.skipped, *others.skipped)

    def __len__(self) -> int:
        return len(self.images) + len(self.others)

    def _at(self, index: int) -> tuple[ImageSet, int, str]:
        first = len(self.images)
        return (self.images, index, OWN) if index < first else (self.others, index - first, OTHER)

    def id(self, index: int) -> str:
        images, at, origin = self._at(index)
        return images.id(at) if origin == OWN else f"{images.name}/{images.id(at)}"

    def read(self, index: int) -> Sample:
        images, at, origin = self._at(index)
        sample = images.read(at)
        return sample.but(id=self.id(index), label=None, labels=(), cues={**sample.cues, "origin": origin})

    @cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        both = f"{self.images.digest} beside {self.others.digest}"
        return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()
