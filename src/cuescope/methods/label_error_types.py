"""What may be wrong with a label that a classifier contradicts: rules of ours for types that people found in ImageNet.

Beyer et al. 2020 and Vasudevan et al. 2022 name several objects under one label, labels that mean the same, and classes
that cannot be told apart. A type is suspected, never found: the rules see what the classifier sees.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.methods.confident_learning import Array, Learned, Probabilities

TYPES = ("synonyms", "several_objects", "ambiguous", "plain_error", "unclear")
"""In the order in which the rules are tried; the last is what is left."""
NEAR = 0.1
"""Two classes are as likely where their probabilities differ by less."""
ENTROPY = 0.5
"""Nats from which on the classifier is unsure."""
BOTH_WAYS = 0.1
"""Of both classes of a pair so large a share is contradicted for the other where they may mean the same."""
AWAY = 1 / 3
"""Share of a map's side from which on a place is away from another."""
SEPARATION = 0.8
"""Area under the ROC curve below which the classifier hardly separates two classes' labels."""

IMAGENET_SYNONYMS = (
    "249>248 250>248 836=837 385>101 386>101 504>968 638=639 657=744 620=681 664=782 482>848 356=357=358=359 435>876"
)
"""Indices of ImageNet's classes: a>b, an image labeled a may as well be called b; a=b, either way. From a public
re-implementation of Vasudevan et al. 2022, not verified against the paper."""


def synonyms_of(text: str) -> frozenset[tuple[int, int]]:
    """Pairs (label, class that is as right) from a text as `IMAGENET_SYNONYMS`. Raises CueError for another one.

    >>> sorted(synonyms_of("3>4 7=8"))
    [(3, 4), (7, 8), (8, 7)]
    """
    found: set[tuple[int, int]] = set()
    for part in text.split():
        names = part.replace(">", "=").split("=")
        if len(names) < 2 or not all(map(str.isdecimal, names)) or (">" in part and len(names) != 2):
            raise CueError(
                f"synonyms '{part}'", wanted="pairs of class indices, as in 249>248 836=837", do="correct it"
            )
        members = [int(name) for name in names]
        found |= {(a, b) for a in members for b in members if a != b and (">" not in part or a == members[0])}
    return frozenset(found)


def odds_away(maps: Tensor, classes: Tensor) -> Tensor:
    """Is there another object? (B, m): the largest log odds of each class (B, m) away from the first one's place.

    `maps` are logits (B, K, h, w); away is farther than a third of the side from where it is strongest.
    """
    logs = maps.double().log_softmax(1)
    odds = logs - torch.log1p(-logs.exp().clamp(max=1 - 1e-12))
    odds = odds.gather(1, classes[:, :, None, None].expand(-1, -1, *maps.shape[2:]))
    height, width = maps.shape[2:]
    peak = odds[:, 0].flatten(1).argmax(1)
    down = (torch.arange(height)[None] - (peak // width)[:, None]).abs() / height
    across = (torch.arange(width)[None] - (peak % width)[:, None]).abs() / width
    far = torch.maximum(down[:, :, None], across[:, None, :]) > AWAY
    return torch.where(far[:, None], odds, -torch.inf).flatten(2).amax(2).clamp(-700, 700)


def types_of(
    p: Probabilities, labels: Array, learned: Learned, away: Array, synonyms: Collection[tuple[int, int]]
) -> Array:
    """(n,): the place in `TYPES` of each flagged label, -1 where none is flagged.

    `away` (n, m) is the largest probability of each of the likeliest classes at any place of the image away from where
    the likeliest class is strongest; NaN where that is not known. There are several objects where the labeled class
    reaches its threshold there. `synonyms` are pairs (label, class) that are known.
    """
    flagged = learned.flagged >= 0
    types = np.full(len(labels), -1)
    types[flagged] = len(TYPES) - 1
    own, thresholds = p.of_class(labels), learned.thresholds
    others = p.outcomes - p.top.shape[1]
    entropy = -(_xlogx(p.top).sum(1) + others * _xlogx(p.rest))
    second = p.top[:, 1] if p.top.shape[1] > 1 else np.zeros(len(labels))
    plain = (learned.confident >= 0) & (learned.confident != labels) & (own < thresholds[labels] / 2)
    ambiguous = (p.top[:, 0] - second < NEAR) & (entropy > ENTROPY)
    with np.errstate(invalid="ignore"):
        several = ((p.classes == labels[:, None]) & (away >= thresholds[labels][:, None]))[:, 1:].any(1)
    same = {(int(j), int(k)) for j, k in _alike(p, labels, learned)} | set(synonyms)
    pairs = zip(labels.tolist(), learned.flagged.tolist(), strict=True)
    alike = np.fromiter((pair in same for pair in pairs), bool, len(labels))
    for place, holds in reversed(list(enumerate((alike, several, ambiguous, plain)))):
        types[flagged & holds] = place
    return types


def _alike(p: Probabilities, labels: Array, learned: Learned) -> list[tuple[int, int]]:
    """Pairs of which many are contradicted in both directions, and which the classifier hardly separates."""
    counts = np.bincount(labels, minlength=p.outcomes)
    high = learned.joint * len(labels) >= BOTH_WAYS * np.maximum(counts[learned.given], 1)
    pairs = {(int(j), int(k)) for j, k in zip(learned.given[high], learned.true[high], strict=True) if j != k}
    both = {pair for pair in pairs if pair[::-1] in pairs}
    found = []
    for j, k in sorted(pair for pair in both if pair[0] < pair[1]):
        which = np.flatnonzero((labels == j) | (labels == k))
        part = Probabilities(p.classes[which], p.top[which], p.rest[which], p.outcomes)
        odds = np.log(part.of_class(np.full(len(which), j)) + 1e-300)
        odds -= np.log(part.of_class(np.full(len(which), k)) + 1e-300)
        if _area(odds[labels[which] == j], odds[labels[which] == k]) < SEPARATION:
            found += [(j, k), (k, j)]
    return found


def _area(high: Array, low: Array) -> float:
    """How often is a value of the first larger than one of the second? Area under the ROC curve, ties count half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / 2 / len(low))


def _xlogx(values: Array) -> Array:
    return values * np.log(np.maximum(values, 1e-300))
