"""Images of another set of which more is known: parts, boxes, answers of people, label maps, a second version."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from cuescope.data.images import ImageSet, Sample


class DerivedSet(ImageSet):
    """Some images of `base`, at increasing `positions`, with more known of each; pixels and framing stay.

    So one decode and one clean forward pass of an image serve all sets that are derived from the same files.
    """

    base: ImageSet
    positions: Sequence[int]

    @abstractmethod
    def derive(self, sample: Sample, index: int) -> Sample:
        """The base's `sample`, which is image `index` of this set, with what is known of it here.

        Raises UnreadableError with the reason where it cannot be used.
        """

    def __len__(self) -> int:
        return len(self.positions)

    def id(self, index: int) -> str:
        return self.base.id(self.positions[index])

    def read(self, index: int) -> Sample:
        return self.derive(self.base.read(self.positions[index]), index)


def root(images: ImageSet) -> ImageSet:
    """The set whose files are decoded."""
    while isinstance(images, DerivedSet):
        images = images.base
    return images


def root_position(images: ImageSet, index: int) -> int:
    """Where image `index` lies in `root(images)`."""
    while isinstance(images, DerivedSet):
        images, index = images.base, images.positions[index]
    return index


def derived(images: ImageSet, index: int, sample: Sample) -> Sample:
    """Image `index` of `images` from the root's decoded `sample` of it. Raises UnreadableError as `read` does."""
    if not isinstance(images, DerivedSet):
        return sample
    return images.derive(derived(images.base, images.positions[index], sample), index)
