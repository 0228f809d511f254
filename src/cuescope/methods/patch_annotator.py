"""A classifier as an annotator: the class logits of each part of an image, where its head allows to ask for them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.network.dense import Dense


@dataclass(frozen=True)
class Annotator:
    """What does each part of an image show, as this classifier has it? Maps of logits that cover the whole image.

    From a dense head (`Classifier.dense_logits`); `description` says what a position sees.

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7))
    >>> annotator = Annotator.of(Classifier(net))
    >>> annotator.logits(torch.rand(2, 3, 8, 12)).shape, annotator.description
    (torch.Size([2, 7, 8, 12]), 'patch logits: each position sees 3 x 3 px (of 224 x 224 px) and nothing else')
    """

    classifier: Classifier
    dense: Dense

    @classmethod
    def of(cls, classifier: Classifier) -> Annotator:
        """Raises CueError, with the reason, for a classifier without a dense head."""
        if classifier.dense is None:
            found = f"{classifier.name} has no dense head: {classifier.why_not_dense}"
            wanted = "a network that averages its last map or its patch tokens, as ResNets do"
            raise CueError(found, wanted=wanted, do="choose another annotator")
        return cls(classifier, classifier.dense)

    @property
    def description(self) -> str:
        """What a position of a map has seen."""
        return self.dense.description

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, K, h, w) float32 on the CPU, the map stretched over the whole image.

        Patches that lie wholly in the image leave an edge without: there the nearest patch is repeated.
        """
        maps = self.classifier.dense_logits(pixels)
        return _to_the_edges(maps, self.dense, (pixels.shape[2], pixels.shape[3]))


def _to_the_edges(maps: Tensor, dense: Dense, size: tuple[int, int]) -> Tensor:
    rows, columns = maps.shape[2:]
    # Where positions see no patches the map is spread over the image, as class activation maps are.
    x0, y0, x1, y1 = dense.place((rows, columns), size).extent if dense.local else (0.0, 0.0, 1.0, 1.0)
    wide, high = (x1 - x0) / columns, (y1 - y0) / rows
    edges = [round(max(0.0, part)) for part in (x0 / wide, (1 - x1) / wide, y0 / high, (1 - y1) / high)]
    return F.pad(maps, edges, mode="replicate") if any(edges) else maps
