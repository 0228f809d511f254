"""A classifier as an annotator: the class logits of each part of an image, where its head allows to ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.network import hooks
from cuescope.network.dense import Dense
from cuescope.network.executor import trial

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Of the largest logit: the most by which the head of the mean token may miss the logits for its tokens to be used."""


@dataclass(frozen=True)
class Annotator:
    """What does each part of an image show, as this classifier has it? Maps of logits that cover the whole image.

    From a dense head (`Classifier.dense_logits`) where there is one. Else from patch tokens, where the head takes
    their mean, as in a ViT without a class token: whatever follows the mean is applied to each token alone.
    `description` says which, and what a position sees.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7))
    >>> annotator = Annotator.of(Classifier(net))
    >>> annotator.logits(torch.rand(2, 3, 8, 12)).shape, annotator.description
    (torch.Size([2, 7, 8, 12]), 'patch logits: each position sees 3 x 3 px (of 224 x 224 px) and nothing else')
    """

    classifier: Classifier
    description: str
    run: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, classifier: Classifier) -> Annotator:
        """Raises CueError, with the reason, for a classifier without a dense head and without such tokens."""
        if why := why_none(classifier):
            found = f"{classifier.name} has no dense head: {why}"
            wanted = "a network that averages its last map or its patch tokens, as ResNets do"
            raise CueError(found, wanted=wanted, do="choose another annotator")
        if classifier.dense is not None:
            return cls(classifier, classifier.dense.description, classifier.dense_logits)
        description = "patch tokens: the head on each token alone, which has seen the whole image through attention"
        return cls(classifier, description, lambda pixels: _of_tokens(classifier, pixels)[0])

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, K, h, w) float32 on the CPU, the map stretched over the whole image.

        Patches that lie wholly in the image leave an edge without: there the nearest patch is repeated.
        """
        maps, dense = self.run(pixels), self.classifier.dense
        return maps if dense is None else _to_the_edges(maps, dense, (pixels.shape[2], pixels.shape[3]))


def why_none(classifier: Classifier) -> str:
    """Why a classifier gives no logits of the parts of an image, to stand after "no dense head:"; "" where it does."""
    if classifier.dense is not None:
        return ""
    if classifier.network is None or not classifier.layers or not classifier.vectors:
        return classifier.why_not_dense
    pixels = trial(classifier.preprocessing, 2)
    try:
        _, of_mean = _of_tokens(classifier, pixels)
    except Exception:  # a network's own modules meet inputs that they were not written for
        return classifier.why_not_dense
    logits = classifier.logits(pixels)
    most = TOLERANCE[classifier.precision] * logits.abs().max().clamp_min(1e-6)
    near = of_mean.shape == logits.shape and (of_mean - logits).abs().max() <= most
    return "" if near else classifier.why_not_dense


def _of_tokens(classifier: Classifier, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K, h, w): the modules after the last map on each of its positions; (B, K): the same on their mean."""
    last, network = classifier.layers[-1], classifier.network
    assert network is not None
    tokens = classifier.features(pixels, [last])[last]
    rows = torch.cat([tokens.mean((2, 3)), tokens.movedim(1, 3).flatten(0, 2)])
    with torch.inference_mode(), hooks.evaluating(network):
        rows = rows.to(classifier.device, next(network.parameters()).dtype)
        for module in map(network.get_submodule, classifier.vectors):
            rows = rows if list(module.children()) else module(rows)
    rows = rows.float().cpu()
    return rows[len(tokens) :].unflatten(0, (len(tokens), *tokens.shape[2:])).movedim(3, 1), rows[: len(tokens)]


def _to_the_edges(maps: Tensor, dense: Dense, size: tuple[int, int]) -> Tensor:
    rows, columns = maps.shape[2:]
    # Where positions see no patches the map is spread over the image, as class activation maps are.
    x0, y0, x1, y1 = dense.place((rows, columns), size).extent if dense.local else (0.0, 0.0, 1.0, 1.0)
    wide, high = (x1 - x0) / columns, (y1 - y0) / rows
    edges = [round(max(0.0, part)) for part in (x0 / wide, (1 - x1) / wide, y0 / high, (1 - y1) / high)]
    return F.pad(maps, edges, mode="replicate") if any(edges) else maps
