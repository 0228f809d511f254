"""What do features tell of the classes of images that the read-out has not seen? Folds, penalties, layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.methods.linear_probe import Loss, fit, losses

FOLDS = 5
"""Parts of the images: each is answered by a read-out of the others."""
PENALTIES = tuple(10.0**k for k in range(-4, 2))
"""Of standardized features, for the mean loss; which one is taken is found by validation."""


class Labeled(NamedTuple):
    """Images that a read-out can learn from: their numbers, their classes from 0, and what these are in the rows."""

    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    labels: NDArray[np.int64]
    why: str = ""
    """Why there is nothing to learn."""

    @classmethod
    def of(cls, labels: Sequence[int | None], least: int = FOLDS) -> Labeled:
        """The images of classes with so many of them, where there are two such.

        >>> Labeled.of([4, 7, None, 7, 4], least=2).classes.tolist()
        [0, 1, 1, 0]
        """
        known = np.array([i for i, label in enumerate(labels) if label is not None], np.int64)
        values = np.array([label for label in labels if label is not None], np.int64)
        classes, counts = np.unique(values, return_counts=True)
        enough = np.isin(values, classes[counts >= least])
        found, at = np.unique(values[enough], return_inverse=True)
        why = f"no two classes have {least} labeled images each" if len(values) else "no image has a label"
        return cls(known[enough], at.astype(np.int64), found, why if len(found) < 2 else "")

    @property
    def chance(self) -> float:
        """How often one is right who always says the class of the most images."""
        return float(np.bincount(self.classes).max() / len(self.classes))


class Told(NamedTuple):
    """What was told of each image by a read-out of others: scores (n, K), of "softmax" logits; the part (n,) that it
    is in; and how each part's read-out did in its validation: the share told right of images of other parts, (FOLDS,).
    """

    scores: NDArray[np.float32]
    parts: NDArray[np.int64]
    validated: NDArray[np.float64]

    @property
    def answers(self) -> NDArray[np.int64]:
        return self.scores.argmax(1)


def parts_of(classes: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """The part (n,) of each image, 0 to FOLDS - 1: at random, with as many of each class in each as can be."""
    part = np.empty(len(classes), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    part[shuffled[np.argsort(classes[shuffled], kind="stable")]] = np.arange(len(classes)) % FOLDS
    return part


def told_of(features: NDArray[np.float32], classes: NDArray[np.int64], loss: Loss = "softmax", seed: int = 0) -> Told:
    """What do linear read-outs of features (n, D) tell of the classes (n,) of images that they have not seen?

    Each part is answered by a read-out of the others, of the penalty with the least loss where one of these others
    is left out, too: nothing of a part decides what is said of it, but that features are standardized over all images,
    without labels.

    >>> x = np.arange(40, dtype=np.float32)[:, None] % 2
    >>> told_of(x, np.arange(40) % 2).answers[:4].tolist()
    [0, 1, 0, 1]
    """
    x, y = standardized(features), torch.from_numpy(classes)
    count, part = int(classes.max()) + 1, torch.from_numpy(parts_of(classes, seed))
    folds, penalties = torch.arange(FOLDS), torch.tensor(PENALTIES)
    following = (folds + 1) % FOLDS
    # Without two neighboring parts: a validation for the one with the other, whichever is answered in the end.
    left = (part != folds[:, None]) & (part != following[:, None])
    tried = fit(x, y, left.repeat_interleave(len(penalties), 0), penalties.repeat(FOLDS), count, loss)
    scores = tried.scores(x)
    shape = FOLDS, len(penalties), len(x)
    right, costs = (scores.argmax(2) == y).reshape(shape), losses(scores, y, loss).reshape(shape)
    best = [int(_left_out(costs, part, f).argmin()) for f in range(FOLDS)]
    validated = [float(_left_out(right, part, f)[at]) for f, at in enumerate(best)]
    made = fit(x, y, part != folds[:, None], penalties[best], count, loss)
    scores = made.scores(x)[part, torch.arange(len(x))]
    return Told(scores.numpy(), part.numpy(), np.array(validated))


def _left_out(values: Tensor, part: Tensor, fold: int) -> Tensor:
    """Of each penalty the mean over what the read-outs without part `fold` have not seen besides: its two neighbors.

    `values` (FOLDS, penalties, n) are those of read-outs without a part and the next one.
    """
    before, after = (fold - 1) % FOLDS, (fold + 1) % FOLDS
    return torch.cat([values[fold][:, part == after], values[before][:, part == before]], 1).double().mean(1)


class Probed(NamedTuple):
    """What read-outs of each layer tell, and of the layer that does best in validation, part by part."""

    layers: list[NDArray[np.bool_]]
    """Of each layer which images are told right, (n,)."""
    right: NDArray[np.bool_]
    """The same of the layer that validation chooses for each part."""
    chosen: int
    """The layer that it chooses most often."""
    groups: NDArray[np.int64]
    """Of each image its part and class, as one number: what one read-out says of one class is not independent."""

    @classmethod
    def of(cls, features: Sequence[NDArray[np.float32]], labeled: Labeled, loss: Loss, seed: int = 0) -> Probed:
        """Of the features (n, D) of each layer."""
        told = [told_of(one[labeled.images], labeled.classes, loss, seed) for one in features]
        right = [one.answers == labeled.classes for one in told]
        best = np.array([one.validated for one in told]).argmax(0)
        own = np.stack(right)[best[told[0].parts], np.arange(len(labeled.images))]
        groups = told[0].parts * len(labeled.labels) + labeled.classes
        return cls(right, own, int(Counter(best.tolist()).most_common()[0][0]), groups)


def standardized(features: NDArray[np.floating]) -> Tensor:
    """Features (n, D) of mean 0 and deviation 1, in the fewest numbers that keep all products: (n, min(n, D)).

    A linear read-out with a penalty on its squared length is the same of either.

    >>> standardized(np.array([[0.0, 5.0], [2.0, 5.0]])).abs().tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    x = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-6 * float(x.abs().max().clamp_min(1e-12)))
    if x.shape[1] <= x.shape[0]:
        return x
    values, vectors = torch.linalg.eigh(x.double() @ x.double().T)
    return (vectors * values.clamp_min(0).sqrt()).float()
