"""Linear read-outs of one of two cues that are crossed: what is answered shares neither cue's source with training."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDS = 3
"""Parts of the objects, and of the texture images, where these are known; each part of both is answered once."""
PAIR_FOLDS = 5
"""Parts of the pairs of categories, where no objects are known."""
RIDGE = 0.1
"""Penalty on standardized features, for each training image. Fixed: leaving out one image would choose it by objects
that are still there in another image."""


class Crossed(NamedTuple):
    """Which images are read, their categories, and what they share: (n,) whole numbers each."""

    images: NDArray[np.int64]
    """Numbers of the images that show two different categories."""
    shape: NDArray[np.int64]
    texture: NDArray[np.int64]
    shape_source: NDArray[np.int64]
    """The object whose shape an image has; the image itself where that is not known."""
    texture_source: NDArray[np.int64]
    named: bool
    """Whether objects and texture images are known."""
    why: str = ""
    """Why nothing can be read; empty where it can."""

    def of(self, cue: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Categories and sources of the "shape" or the "texture"."""
        return (self.shape, self.shape_source) if cue == "shape" else (self.texture, self.texture_source)

    @property
    def clusters(self) -> tuple[NDArray[np.int64], ...]:
        """What images share, as `core/stats` takes it."""
        return (self.shape_source, self.texture_source) if self.named else ()

    def splits(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Which images are learned from, and which are answered: these share no object and no texture image with those.

        Without names no pair of categories is shared: one of `PAIR_FOLDS` parts is answered at a time, in which every
        category is as frequent as in the others. A read-out of the shape that goes by the texture is then right less
        often than by chance, never more often.
        """
        if self.named:
            mine, other = _parts(self.shape, self.shape_source), _parts(self.texture, self.texture_source)
            for a in range(FOLDS):
                for b in range(FOLDS):
                    yield (mine != a) & (other != b), (mine == a) & (other == b)
        else:
            part = (self.shape + self.texture) % PAIR_FOLDS
            yield from ((part != fold, part == fold) for fold in range(PAIR_FOLDS))


def crossed(
    shape: Sequence[str],
    texture: Sequence[str],
    objects: Sequence[str | None] = (),
    texture_images: Sequence[str | None] = (),
) -> Crossed:
    """What can be read of stimuli with these categories, and the objects and texture images they are made of, if known?

    >>> crossed(["cat", "dog", "cat"], ["dog", "cat", "cat"]).why
    'no two categories are there twice, as shape and as texture'
    """
    s, t = np.asarray(shape, str), np.asarray(texture, str)
    named = bool(len(s)) and len(objects) == len(texture_images) == len(s)
    named = named and None not in objects and None not in texture_images
    kept = np.flatnonzero(s != t)
    categories = np.unique(np.concatenate([s, t])) if len(s) else s
    cues = [np.searchsorted(categories, cue[kept]) for cue in (s, t)]
    sources = [kept, kept]
    if named:
        sources = [np.unique(np.asarray(cue, str), return_inverse=True)[1][kept] for cue in (objects, texture_images)]
    enough = all(_repeated(cue, source) > 1 for cue, source in zip(cues, sources, strict=True))
    twice = "with two objects and two texture images each" if named else "there twice"
    why = "" if enough else f"no two categories are {twice}, as shape and as texture"
    return Crossed(kept, cues[0], cues[1], sources[0], sources[1], named, why)


def answers(
    features: NDArray[Any], design: Crossed, labels: NDArray[np.int64], ridge: float = RIDGE
) -> NDArray[np.int64]:
    """What does a linear read-out, taught with these labels, answer to the images it was not trained on?

    `features` are (n, d); `labels` are (n, m) whole numbers, m labelings of the same images (the true one, permuted
    ones), each read out by itself. The answers are (n, m). A ridge regression on the categories, one against the rest,
    of features standardized on the training images.

    >>> design = crossed(["a", "b", "c"] * 6, ["b", "c", "a", "c", "a", "b"] * 3)
    >>> answers(np.eye(3)[design.shape], design, design.shape[:, None])[:3, 0].tolist()
    [0, 1, 2]
    """
    found = np.full(labels.shape, -1, np.int64)
    count = int(labels.max(initial=0)) + 1
    for train, test in design.splits():
        if not train.any() or not test.any():
            continue
        mean, spread = features[train].mean(0), features[train].std(0)
        # What is the same for all training images tells nothing; what is so up to rounding neither.
        spread = np.where(spread > 1e-6 * np.abs(features[train]).max(initial=1e-30), spread, np.inf)
        x, new = (features[train] - mean) / spread, (features[test] - mean) / spread
        inverse = np.linalg.solve(x.T @ x + ridge * len(x) * np.eye(x.shape[1]), x.T)
        taught = (labels[train][:, :, None] == np.arange(count)).astype(float)
        share = taught.mean(0)
        scores = (new @ inverse @ (taught - share).reshape(len(x), -1)).reshape(len(new), *share.shape) + share
        found[test] = scores.argmax(2)
    return found


def permuted(labels: NDArray[np.int64], source: NDArray[np.int64], times: int, seed: int = 0) -> NDArray[np.int64]:
    """(n, times) labelings in which each source (an object, a texture image) has the category of another one.

    >>> permuted(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 1, seed=3).ravel().tolist()
    [1, 1, 0, 0]
    """
    random = np.random.default_rng(seed)
    _, first, place = np.unique(source, return_index=True, return_inverse=True)
    return np.stack([random.permutation(labels[first])[place] for _ in range(times)], 1)


def _parts(categories: NDArray[np.int64], source: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,): the part that an image's source lies in; those of one category are dealt out in turn."""
    part = np.empty(len(source), np.int64)
    for number, category in enumerate(np.unique(categories)):
        mine = categories == category
        place = np.unique(source[mine], return_inverse=True)[1]
        part[mine] = (place + number) % FOLDS
    return part


def _repeated(categories: NDArray[np.int64], source: NDArray[np.int64]) -> int:
    """How many categories come from more than one source?"""
    pairs = np.unique(np.stack([categories, source], 1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum()) if len(pairs) else 0
