"""Images of another set of which more is known: parts, boxes, answers of people, label maps, a second version."""

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence

from cuescope.data.images import ImageSet, Sample


class DerivedSet(ImageSet):
    """The images of another set at some positions, or all, with more known of each; positions increase.

    Pixels and framing stay: one decode and one clean forward pass of an image serve all sets of the same files.
    """

    def __init__(self, images: ImageSet, at: Sequence[int] | None = None) -> None:
        self.images, self.at = images, range(len(images)) if at is None else at
        self.name, self.source = images.name, images.source
        self.classes, self.knows = images.classes, images.knows
        self.notes, self.skipped = images.notes, images.skipped

    @abstractmethod
    def changed(self, sample: Sample) -> Sample:
        """An image of the other set as it is in this one. Raises UnreadableError where it cannot be used."""

    @abstractmethod
    def hashed(self) -> tuple[str, Iterable[object]]:
        """What is known more: a word for it, and things whose repr tells them apart."""

    def __len__(self) -> int:
        return len(self.at)

    def id(self, index: int) -> str:
        return self.images.id(self.at[index])

    def label(self, index: int) -> int | None:
        return self.images.label(self.at[index])

    def read(self, index: int) -> Sample:
        return self.changed(self.images.read(self.at[index]))

    def ahead(self, indices: Sequence[int]) -> None:
        self.images.ahead([self.at[index] for index in indices])

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        word, things = self.hashed()
        total = hashlib.blake2b(f"{self.images.digest} {word}".encode(), digest_size=16)
        for thing in things:
            total.update(repr(thing).encode())
        return total.hexdigest()


def root(images: ImageSet) -> ImageSet:
    """The set whose files are decoded."""
    while isinstance(images, DerivedSet):
        images = images.images
    return images


def root_position(images: ImageSet, index: int) -> int:
    """Where image `index` lies in `root(images)`."""
    while isinstance(images, DerivedSet):
        images, index = images.images, images.at[index]
    return index


def derived(images: ImageSet, sample: Sample) -> Sample:
    """The root's decoded `sample` as it is in `images`. Raises UnreadableError as `read` does."""
    return images.changed(derived(images.images, sample)) if isinstance(images, DerivedSet) else sample


class Subset(DerivedSet):
    """Some images of another set, of which nothing more is known."""

    def __init__(self, images: ImageSet, at: Sequence[int], how: str = "evenly spread") -> None:
        super().__init__(images, at)
        self.notes = (*images.notes, f"{len(at):,} of {len(images):,} images, {how}")

    def changed(self, sample: Sample) -> Sample:
        return sample

    def hashed(self) -> tuple[str, Iterable[object]]:
        return "subset", self.at


def with_another(samples: Sequence[Sample]) -> list[Sample]:
    """Images that are seen together, each with `another` of them, of another label where there is one.

    The other is the one half of the images further, or the next after it whose label differs.
    """
    found = []
    for i, sample in enumerate(samples):
        further = [samples[(i + len(samples) // 2 + k) % len(samples)] for k in range(len(samples))]
        others = [other for other in further if other is not sample]
        unlike = [other for other in others if other.label is None or other.label != sample.label]
        found.append(sample.but(another=next(iter(unlike or others), None)))
    return found
