"""Images that are decoded once, as far as memory is set aside for them: a training reads each of them many times."""

from __future__ import annotations

import functools
import threading

from cuescope.data.derived import DerivedSet
from cuescope.data.images import HELD_BYTES, ImageSet, Sample


class Kept(DerivedSet):
    """The images of another set, of which decoded pixels of at most `most_bytes` are kept once they were read.

    >>> from cuescope.world.images import WorldImages
    >>> images = Kept(WorldImages(count=2))
    >>> images.read(0) is images.read(0)
    True
    """

    def __init__(self, images: ImageSet, most_bytes: int = HELD_BYTES) -> None:
        super().__init__(images)
        self._free, self._samples, self._labels = most_bytes, dict[int, Sample](), dict[int, int | None]()
        self._lock = threading.Lock()

    def read(self, index: int) -> Sample:
        if (known := self._samples.get(index)) is not None:
            return known
        sample = self.images.read(index)
        size = sample.pixels.numel()
        with self._lock:
            if size <= self._free and index not in self._samples:
                self._free -= size
                self._samples[index] = sample
        return sample

    def label(self, index: int) -> int | None:
        if index not in self._labels:
            self._labels[index] = self.images.label(index)
        return self._labels[index]

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """That of the images: nothing more is known of them."""
        return self.images.digest

    def changed(self, sample: Sample) -> Sample:
        return sample

    def hashed(self) -> tuple[str, tuple[object, ...]]:
        return "kept", ()
