"""The pictures that explain an answer, of a network and of the same one with random weights."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.occlude import Occlude, fill_color
from cuescope.methods.attribution import KINDS, Attributions
from cuescope.methods.attribution.places import class_map
from cuescope.methods.deconvnet import Variant, project, visible, why_not
from cuescope.methods.incremental import painted_logits
from cuescope.methods.random_weights import randomized

VARIANTS: dict[str, Variant] = {"deconvnet": "deconvnet", "guided backpropagation": "guided"}
CLASS_MAP, OCCLUSION = "class map", "occlusion"
METHODS = (*VARIANTS, *KINDS, CLASS_MAP, OCCLUSION)
SIGNED = ("integrated gradients", "DeepLift")
"""Attributions of either sign: what they show is where they are large."""
SQUARE = 0.22
"""Side of the square that hides a place, and the distance of places, as a share of the shorter side."""


class Pair(NamedTuple):
    """A picture (h, w) of the network and of that with random weights, and the edges of the image there."""

    own: Tensor
    random: Tensor
    edges: Tensor

    @property
    def alike(self) -> float | None:
        """The rank correlation of both; None where one is the same everywhere."""
        return rank_correlation(self.own, self.random)

    @property
    def like_edges(self) -> float | None:
        """The rank correlation of the network's own with the edges, which depend on no network at all."""
        return rank_correlation(self.own, self.edges)


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of `METHODS`, of a classifier and of its randomized copy."""

    classifier: Classifier
    random: Classifier
    own: Attributions
    other: Attributions
    steps: int
    """Of integrated gradients."""

    @classmethod
    def of(cls, classifier: Classifier, steps: int, seed: int = 0) -> "Pictures":
        """Found once for a classifier. Raises CueError for a black box."""

        def find() -> "Pictures":
            random = randomized(classifier, seed)
            return cls(classifier, random, Attributions.of(classifier), Attributions.of(random), steps)

        return classifier.known(("pictures", steps, seed), find)

    def pairs(self, pixels: Tensor, target: int) -> dict[str, Pair | str]:
        """Of each method the two pictures of an image (3, H, W) in [0, 1] for a class, or why there are none."""
        own, random = (self._maps(maps, pixels, target) for maps in (self.own, self.other))
        seen, found = edges(pixels).cpu(), self._units(pixels)
        for name, ours in own.items():
            theirs = random[name]
            if isinstance(ours, str) or isinstance(theirs, str):
                found[name] = ours if isinstance(ours, str) else str(theirs)
            else:
                found[name] = Pair(ours, theirs, seen)
        return found

    def _maps(self, maps: Attributions, pixels: Tensor, target: int) -> dict[str, Tensor | str]:
        found = maps.maps(pixels, target, self.steps)
        for name in SIGNED:
            values = found[name]
            found[name] = values if isinstance(values, str) else values.abs()
        found[CLASS_MAP] = class_map(maps.classifier, pixels, target)
        found[OCCLUSION] = _falls(maps.classifier, pixels, target)
        return found

    def _units(self, pixels: Tensor) -> dict[str, Pair | str]:
        """What excites the strongest unit of the last map, by each variant, as far as the unit can see."""
        stages = self.classifier.stages()
        if not stages:
            return dict.fromkeys(VARIANTS, "it has no map over the image")
        return {
            name: unit_pair(self.classifier, self.random, pixels, stages[-1], way) for name, way in VARIANTS.items()
        }


def unit_pair(classifier: Classifier, random: Classifier, pixels: Tensor, layer: str, variant: Variant) -> Pair | str:
    """Projections of the strongest unit of a layer, and of the unit at the same place of the other network that is as
    strong there, or nearest to it; absolute values, summed over the colors. A string says why there are none.
    """
    if lacking := classifier.known(("no projection", layer, variant), lambda: why_not(classifier, layer, variant)):
        return lacking
    image = pixels[None]
    maps, others = (network.features(image, [layer])[layer][0] for network in (classifier, random))
    channel, row, column = (int(k) for k in np.unravel_index(int(maps.argmax()), tuple(maps.shape)))
    other = int((others[:, row, column] - maps[channel, row, column]).abs().argmin())
    (window,) = visible(classifier, layer, [(row, column)], pixels)
    shown = [
        project(network, image, layer, [unit], places=[(row, column)], variant=variant).maps[0].abs().sum(0)[window[1:]]
        for network, unit in ((classifier, channel), (random, other))
    ]
    return Pair(shown[0], shown[1], edges(pixels).cpu()[window[1:]])


def edges(pixels: Tensor) -> Tensor:
    """How much the brightness of an image (3, H, W) changes at each pixel, (H, W): it depends on no network.

    >>> edges(torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(3, 4, 4))[0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    gray = pixels.mean(0)
    down, across = F.pad(gray[2:] - gray[:-2], (0, 0, 1, 1)), F.pad(gray[:, 2:] - gray[:, :-2], (1, 1))
    return torch.hypot(down, across)


def alike_random(classifier: Classifier, images: Iterable[Tensor], layer: str, variant: Variant) -> float | None:
    """How alike projections of a layer and of random weights are in these images: their rank correlation, a mean.

    None where the variant is the plain gradient, or where nothing can be compared.
    """
    if variant == "gradient":
        return None
    pairs = [unit_pair(classifier, randomized(classifier), pixels, layer, variant) for pixels in images]
    known = [pair.alike for pair in pairs if isinstance(pair, Pair) and pair.alike is not None]
    return sum(known) / len(known) if known else None


def _falls(classifier: Classifier, pixels: Tensor, target: int) -> Tensor:
    """How far P(class) falls while a square of the mean pixel hides each place, (rows, columns) of places, laid over
    the image by the nearest: (H, W).
    """
    height, width = pixels.shape[-2:]
    side = max(1, round(SQUARE * min(height, width)))
    occlude = Occlude(side, side, fill_color("mean", classifier.preprocessing.mean))
    grid = occlude.grid(height, width)
    painted = painted_logits(classifier, pixels, grid.rectangles, occlude.color)
    falls = painted.clean.double().softmax(0)[target] - painted.logits.double().softmax(1)[:, target]
    small = falls.view(1, 1, len(grid.tops), len(grid.lefts)).float().cpu()
    return F.interpolate(small, (height, width), mode="nearest")[0, 0]


def rank_correlation(a: Tensor, b: Tensor) -> float | None:
    """Spearman's correlation of two maps of one shape, ties at their mean rank; None where one is the same everywhere.

    >>> rank_correlation(torch.tensor([1.0, 2.0, 2.0]), torch.tensor([10.0, 0.0, 0.0]))
    -1.0
    """
    x, y = (_ranks(one) for one in (a, b))
    size = math.sqrt((x @ x) * (y @ y))
    return float(x @ y) / size if size else None


def _ranks(values: Tensor) -> NDArray[Any]:
    """The place of each value among all, less the mean place; equal values have the mean of their places."""
    _, which, counts = np.unique(values.detach().cpu().numpy().ravel(), return_inverse=True, return_counts=True)
    places = np.cumsum(counts) - (counts - 1) / 2
    return places[which] - (len(which) + 1) / 2
