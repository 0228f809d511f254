"""Labeled images to learn from: their classes, and which of them are kept back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet

HELD_OUT = 10
"""One image of so many is kept back."""


def labeled_classes(images: ImageSet) -> ClassSpace:
    """The classes that these images are labeled with. Raises CueError where they have no labels, or one class only."""
    if images.classes is None or "label" not in images.knows:
        raise CueError(
            f"the images of {images.name} have no labels",
            wanted="a folder for each class, or a labels.csv",
            do="sort the images into folders named by class, or give --labels FILE.csv",
        )
    if len(images.classes) < 2:
        raise one_class(images, f"the class '{images.classes.names[0]}' alone")
    return images.classes


def one_class(images: ImageSet, told: str) -> CueError:
    """The error for images that nothing can be told apart by; `told` says what they hold."""
    wanted, do = "images of at least two classes", "give the folder that holds a folder for each class"
    return CueError(f"{images.name} holds {told}", wanted=wanted, do=do)


def held_out(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """One position of each ten in a row, at random: of images in the order of their classes, a tenth of each.

    >>> held_out(9, np.random.default_rng(0)).size, held_out(35, np.random.default_rng(0)).size
    (0, 3)
    """
    tens = np.arange(0, count - HELD_OUT + 1, HELD_OUT)
    return tens + random.integers(0, HELD_OUT, len(tens))
