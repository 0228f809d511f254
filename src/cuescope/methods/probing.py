"""What do features tell of the classes of images that the read-out has not seen? Folds, penalties, layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.core.findings import Measure
from cuescope.core.matrix import HELD, Matrix
from cuescope.core.wording import counted
from cuescope.methods.confident_learning import Logits
from cuescope.methods.linear_probe import Features, Loss, fit, losses, parts

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

    def left_out(self, labels: Sequence[int | None], names: Sequence[str], least: int = FOLDS) -> list[str]:
        """A sentence on what of all labels is not among these, and on which classes; none where all are.

        >>> labels = [0, 0, 1, 1, 2, None]
        >>> Labeled.of(labels, least=2).left_out(labels, ("cat", "dog", "emu"), least=2)
        ['Left out: 1 image without a label; 1 image of classes with fewer than 2 (emu).']
        """
        lacking = sum(label is None for label in labels)
        few = len(labels) - lacking - len(self.images)
        small = sorted({label for label in labels if label is not None} - set(self.labels.tolist()))
        names = [*(names[k] for k in small[:3]), "..."][: len(small)]
        said = [f"{counted(lacking, 'image')} without a label"] if lacking else []
        said += [f"{counted(few, 'image')} of classes with fewer than {least} ({', '.join(names)})"] if few else []
        return [f"Left out: {'; '.join(said)}."] if said else []

    @property
    def chance(self) -> float:
        """How often one is right who always says the class of the most images."""
        return float(np.bincount(self.classes).max() / len(self.classes))


class Told(NamedTuple):
    """What was told of each image by a read-out of others: the answers (n,); the part (n,) that it is in; how each
    part's read-out did in its validation: the share told right of images of other parts, (FOLDS,); and the largest
    logits, where some were to be kept.
    """

    answers: NDArray[np.int64]
    parts: NDArray[np.int64]
    validated: NDArray[np.float64]
    logits: Logits | None = None


def parts_of(classes: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """The part (n,) of each image, 0 to FOLDS - 1: at random, with as many of each class in each as can be."""
    part = np.empty(len(classes), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    part[shuffled[np.argsort(classes[shuffled], kind="stable")]] = np.arange(len(classes)) % FOLDS
    return part


def told_of(x: Features, classes: NDArray[np.int64], loss: Loss = "softmax", seed: int = 0, kept: int = 0) -> Told:
    """What do linear read-outs of standardized features (n, D) tell of the classes (n,) of images that they have not
    seen?

    Each part is answered by a read-out of the others, of the penalty with the least loss where one of these others
    is left out, too: nothing of a part decides what is said of it. `kept` says how many logits of an image are wanted.

    >>> x = torch.arange(40.0)[:, None] % 2
    >>> told_of(x, np.arange(40) % 2).answers[:4].tolist()
    [0, 1, 0, 1]
    """
    y = torch.from_numpy(classes)
    count, part = int(classes.max()) + 1, torch.from_numpy(parts_of(classes, seed))
    folds, penalties = torch.arange(FOLDS), torch.tensor(PENALTIES)
    following = (folds + 1) % FOLDS
    # Without two neighboring parts: a validation for the one with the other, whichever is answered in the end.
    left = (part != folds[:, None]) & (part != following[:, None])
    tried = fit(x, y, left.repeat_interleave(len(penalties), 0), penalties.repeat(FOLDS), count, loss)
    # Of each read-out the right answers, and the losses, in each part.
    right, costs = torch.zeros(2, len(tried.biases), FOLDS, dtype=torch.float64)
    for where, some in parts(x, len(tried.biases) * count):
        scores, own = tried.scores(some), torch.nn.functional.one_hot(part[where], FOLDS).double()
        right += (scores.argmax(1) == y[where]).double() @ own
        costs += losses(scores, y[where], loss).double() @ own
    sizes = part.bincount(minlength=FOLDS)
    right, costs = (_left_out(of.view(FOLDS, len(penalties), FOLDS), sizes) for of in (right, costs))
    best = costs.argmin(1)
    made = fit(x, y, part != folds[:, None], penalties[best], count, loss)
    answers, logits = np.empty(len(classes), np.int64), []
    for where, some in parts(x, FOLDS * count):
        scores = made.scores(some)[part[where], :, torch.arange(len(some))].numpy()
        answers[where] = scores.argmax(1)
        if kept:
            logits.append(Logits.of(scores.astype(float), min(kept, count)))
    return Told(answers, part.numpy(), right[folds, best].numpy(), Logits.joined(logits) if logits else None)


def _left_out(sums: Tensor, sizes: Tensor) -> Tensor:
    """Of each part and penalty the mean over what the read-outs without this part have not seen besides, its two
    neighbors, (FOLDS, penalties), of sums (FOLDS, penalties, FOLDS) of read-outs without a part and the next one.
    """
    folds = torch.arange(FOLDS)
    before, after = (folds - 1) % FOLDS, (folds + 1) % FOLDS
    return (sums[folds, :, after] + sums[before, :, before]) / (sizes[after] + sizes[before])[:, None]


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
    def of(
        cls, layers: Iterable[Features], labeled: Labeled, kinds: Sequence[Loss] = ("softmax",), seed: int = 0
    ) -> dict[Loss, Probed]:
        """By the kind of read-out, of the standardized features (n, D) of each layer; none where there are none."""
        told: dict[Loss, list[Told]] = {kind: [] for kind in kinds}
        for features in layers:
            for kind, own in told.items():
                own.append(told_of(features, labeled.classes, kind, seed))
        return {kind: cls._of(own, labeled) for kind, own in told.items() if own}

    @classmethod
    def _of(cls, told: Sequence[Told], labeled: Labeled) -> Probed:
        right = [one.answers == labeled.classes for one in told]
        best = np.array([one.validated for one in told]).argmax(0)
        own = np.stack(right)[best[told[0].parts], np.arange(len(labeled.images))]
        groups = told[0].parts * len(labeled.labels) + labeled.classes
        return cls(right, own, int(Counter(best.tolist()).most_common()[0][0]), groups)


def widened(found: Measure, values: NDArray[Any], groups: NDArray[np.int64]) -> Measure:
    """A mean of `values` (n,) over images with the interval that it has where those of a group are not independent.

    Answers of one read-out to one class go together, most of all near chance. By the root of Kish's design effect, the
    variance of sums over groups beside that of independent images, the interval is longer, never shorter.
    """
    if found.value is None or found.interval is None:
        return found
    apart = values - values.mean()
    sums = np.bincount(groups, apart)
    own = float(np.square(apart).sum())
    used = len(np.unique(groups))
    effect = float(np.square(sums).sum()) * used / max(used - 1, 1) / own if own > 0 else 1.0
    longer = math.sqrt(max(effect, 1.0))
    bottom = -1.0 if found.unit == "difference" else 0.0
    low, high = (found.value + (end - found.value) * longer for end in found.interval)
    return replace(found, interval=(max(low, bottom), min(high, 1.0)))


def standard(features: Matrix) -> Features:
    """Features (n, D) of mean 0 and deviation 1; in fewer numbers where there are more of them than images."""
    images, width = features.shape
    if images < width or images * width <= HELD:
        return standardized(features.part(0, images))
    seen, mean, squares, largest = 0, np.zeros(width), np.zeros(width), 0.0
    for _, part in features.parts(max(1, HELD // width)):
        rows, n = part.astype(float), len(part)
        own = rows.mean(0)
        # Chan's way of joining means and squares of parts.
        squares += np.square(rows - own).sum(0) + (own - mean) ** 2 * seen * n / (seen + n)
        mean += (own - mean) * n / (seen + n)
        seen, largest = seen + n, max(largest, float(np.abs(rows).max()))
    features.shift = mean.astype(np.float32)
    features.scale = (1 / np.maximum(np.sqrt(squares / seen), _flat(largest))).astype(np.float32)
    return features


def standardized(features: NDArray[np.floating]) -> Tensor:
    """Features (n, D) of mean 0 and deviation 1, in the fewest numbers that keep all products: (n, min(n, D)).

    A linear read-out with a penalty on its squared length is the same of either.

    >>> standardized(np.array([[0.0, 5.0], [2.0, 5.0]])).abs().tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    x = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp_min(_flat(float(x.abs().max())))
    if x.shape[1] <= x.shape[0]:
        return x
    values, vectors = torch.linalg.eigh(x.double() @ x.double().T)
    return (vectors * values.clamp_min(0).sqrt()).float()


def _flat(largest: float) -> float:
    """A deviation of numbers of this size that is rounding alone."""
    return 1e-6 * max(largest, 1e-12)
