"""Linear read-outs: what can be read from features, on images that the read-out was not trained on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cuescope.core.classes import IMAGENET

FOLDS = 5
"""Parts the images are split into: each is answered by a read-out of the others."""
PENALTIES = np.logspace(-1, 5, 13)
"""Of the ridge; which one is taken is found by leaving out one training image at a time."""
ANIMALS = 398
"""Of ImageNet's classes in their usual order the first so many are animals, and no others are."""


class Targets(NamedTuple):
    """What a read-out is to tell: of which images (their numbers), and for each the class; or `why` it cannot be."""

    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    why: str = ""
    note: str = ""
    """What a reader should know of the classes."""


def targets_of(labels: Sequence[int | None], space: str = "") -> Targets:
    """What can a read-out learn from these labels? The classes of `FOLDS` images or more, where there are two such.

    Of ImageNet's classes (the class space `space`), where there are not: animals, and all else.

    >>> targets_of([0, 1, None, 1, 0] * 5).images[:4].tolist(), targets_of([3, 4]).why
    ([0, 1, 3, 4], 'no two classes have 5 labeled images each')
    """
    known = np.array([i for i, label in enumerate(labels) if label is not None], np.int64)
    values = np.array([label for label in labels if label is not None], np.int64)
    classes, counts = np.unique(values, return_counts=True)
    enough = np.isin(values, classes[counts >= FOLDS])
    if len(np.unique(values[enough])) > 1:
        return Targets(known[enough], values[enough])
    animal = (values < ANIMALS).astype(np.int64)
    if space == IMAGENET and np.bincount(animal, minlength=2).min() >= FOLDS:
        return Targets(known, animal, note="too few images of a class, so the read-outs tell animals from all else")
    why = f"no two classes have {FOLDS} labeled images each" if len(values) else "no image has a label"
    return Targets(known[:0], values[:0], why)


def held_out(views: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """What does a linear read-out of the first view answer to each view of the images it was not trained on?

    `views` are features (n, V, C) of V views of n images, `classes` (n,) whole numbers; the answers are (n, V). A ridge
    classifier, one against the rest, on standardized features; each of `FOLDS` parts is answered by the read-out of the
    others. Raises ValueError where there are not two classes, or one has fewer than `FOLDS` images.

    >>> views = np.array([[[k % 2 * 1.0, 0.0]] for k in range(20)])
    >>> held_out(views, np.arange(20) % 2).ravel()[:4].tolist()
    [0, 1, 0, 1]
    """
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, counts = np.unique(classes, return_counts=True)
    if len(known) < 2 or counts.min() < FOLDS:
        raise ValueError(f"a read-out needs two classes of {FOLDS} images each")
    part = np.empty(len(classes), int)
    # Class after class, so that no part lacks one and all parts are alike in size.
    part[np.argsort(classes, kind="stable")] = np.arange(len(classes)) % FOLDS
    answers = np.empty(views.shape[:2], np.int64)
    for fold in range(FOLDS):
        left = part == fold
        read = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES)).fit(views[~left, 0], classes[~left])
        answers[left] = read.predict(views[left].reshape(-1, views.shape[2])).reshape(left.sum(), -1)
    return answers
