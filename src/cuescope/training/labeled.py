"""Labeled images to learn from: their classes, which of them are kept back, and batches of them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.progress import Progress, quiet
from cuescope.data.images import ImageSet, Sample, Skipped

HELD_OUT = 10
"""One image of so many is kept back."""


def labeled_classes(images: ImageSet) -> ClassSpace:
    """The classes that these images are labeled with. Raises CueError where they have no labels, or one class only."""
    if images.classes is None or "label" not in images.knows:
        do = "sort the images into folders named by class, or give --labels FILE.csv"
        found, wanted = f"the images of {images.name} have no labels", "a folder for each class, or a labels.csv"
        raise CueError(found, wanted=wanted, do=do)
    if len(images.classes) < 2:
        raise _one_class(images, f"the class '{images.classes.names[0]}' alone")
    return images.classes


def check_labels(images: ImageSet, classes: ClassSpace, labels: NDArray[np.int64], none: str) -> None:
    """Raise CueError where all these labels are one class, or where there are none: `none` says so."""
    found = np.unique(labels)
    if len(found) < 2:
        raise _one_class(images, f"the class '{classes.names[found[0]]}' alone" if len(found) else none)


def _one_class(images: ImageSet, what: str) -> CueError:
    wanted, do = "images of at least two classes", "give the folder that holds a folder for each class"
    return CueError(f"{images.name} holds {what}", wanted=wanted, do=do)


def held_out(count: int, random: np.random.Generator, one_of: int = HELD_OUT) -> NDArray[np.int64]:
    """One position of each ten in a row, at random: of images in the order of their classes, a tenth of each.

    >>> held_out(9, np.random.default_rng(0)).size, held_out(35, np.random.default_rng(0)).size
    (0, 3)
    """
    starts = np.arange(0, count - one_of + 1, one_of)
    return starts + random.integers(0, one_of, len(starts))


def split(
    labels: NDArray[np.int64], random: np.random.Generator, one_of: int = HELD_OUT
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the labeled images to learn from, and of those to keep back: one of ten in each class, never all.

    >>> learned, back = split(np.repeat([0, 1], 20), np.random.default_rng(0))
    >>> len(learned), np.bincount(np.repeat([0, 1], 20)[back]).tolist()
    (36, [2, 2])
    """
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    back = order[held_out(len(order), random, one_of)]
    gone = np.setdiff1d(labels[order], labels[np.setdiff1d(order, back)])
    back = back[~np.isin(labels[back], gone)]
    return np.setdiff1d(order, back), np.sort(back)


class Reader:
    """Reads labeled images in batches, and remembers each that cannot be read."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.unreadable: dict[str, Skipped] = {}

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Images that nothing was learned from: those that the set itself left out, and the unreadable."""
        return tuple(({one.id: one for one in self.images.skipped} | self.unreadable).values())

    def batches(
        self, at: Sequence[int], size: int, progress: Progress = quiet, what: str = ""
    ) -> Iterator[tuple[list[int], NDArray[np.int64], list[Sample]]]:
        """Indices, labels (B,) and samples of those of the images that have a label and can be read, `size` at most."""
        groups, done = [at[i : i + size] for i in range(0, len(at), size)], 0
        for group, (samples, skipped) in zip(groups, self.images.stream(groups), strict=True):
            self.unreadable |= {one.id: one for one in skipped}
            done += len(group)
            progress(done, len(at), what)
            labeled = [(index, one, one.label) for index, one in samples if one.label is not None and one.label >= 0]
            if labeled:
                indices, found, labels = map(list, zip(*labeled, strict=True))
                yield indices, np.array(labels, np.int64), found
