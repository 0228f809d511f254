"""Squares over the parts of an object and at random places, and the signs of what layers lose by each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError, unknown
from cuescope.data.images import Sample
from cuescope.data.ops.occlude import Color, Rectangle, cover, pixels_of
from cuescope.data.ops.shift import draw
from cuescope.data.preprocessing import Preprocessing, locate
from cuescope.network.executor import trial

MEAN = ":mean"
"""After the name of a layer: its map averaged over all places."""
NOISE = {"float32": 1e-5, "bfloat16": 1e-2}
"""Of a layer's largest value: what changes less has only been rounded otherwise, and counts as unchanged."""
SIDE_PX, FRAME = 112, (0.9, 0.1, 0.1)
"""The longer side of a picture at most, and the color of its frame."""


@dataclass(frozen=True)
class Square:
    """A square to mask: that of a part (the kind "part"), one of its size at a random place ("random"), or that of the
    part in an image in which its pixels were shuffled before ("shuffled"): its colors without what they show.
    """

    part: str
    kind: str
    draw: int
    place: Rectangle


def seen_parts(sample: Sample, how: Preprocessing) -> dict[str, Rectangle]:
    """The pixels of each part in the network's input; a part of which the crop cuts away more than half is left out.

    >>> from cuescope.data.images import Box
    >>> cat = Sample("cat", torch.zeros(3, 20, 40), parts={"ear": Box(10, 0, 14, 4), "tail": Box(0, 0, 11, 4)})
    >>> seen_parts(cat, Preprocessing((20, 20), 20))
    {'ear': Rectangle(top=0, left=0, bottom=4, right=4)}
    """
    shape = (sample.pixels.shape[1], sample.pixels.shape[2])
    found = {part: pixels_of(locate(box, shape, how, sample.framing), *how.size) for part, box in sample.parts.items()}
    return {part: place for part, place in found.items() if place is not None}


def squares(sample: Sample, how: Preprocessing, only: Collection[str], draws: int, seed: int) -> Iterator[Square]:
    """Two squares for each part that is seen, of those in `only` or of all, and `draws` random ones of its size.

    Random ones lie anywhere in the input, and depend on the seed and the names of image and part alone.
    """
    height, width = how.size
    for part, place in seen_parts(sample, how).items():
        if only and part not in only:
            continue
        yield Square(part, "part", 0, place)
        yield Square(part, "shuffled", 0, place)
        high, wide = place.bottom - place.top, place.right - place.left
        for number in range(draws):
            chance = draw(seed, sample.id, f"{part}/{number}")
            top, left = chance.randint(0, height - high), chance.randint(0, width - wide)
            yield Square(part, "random", number, Rectangle(top, left, top + high, left + wide))


def chosen_layers(classifier: Classifier, layers: Sequence[str]) -> tuple[str, str]:
    """The low and the high layer: the two named, or the last map and the vector that the last layer reads.

    Where the network makes no such vector by a layer of its own, it is the mean of the last map. Raises CueError for
    an unknown name, with the nearest ones, and for a network without maps.
    """
    known = (*classifier.layers, *classifier.vectors)
    for name in layers:
        if name.removesuffix(MEAN) not in known:
            raise unknown("layer", name, known)
    if layers:
        return layers[0], layers[1]
    blank = torch.zeros(1, 3, *classifier.preprocessing.size)

    def last(names: Sequence[str]) -> str | None:
        # What has a unit for each class is the answer, not what it is read from.
        widths = ((name, classifier.features(blank, [name])[name].shape[1]) for name in reversed(names))
        return next((name for name, width in widths if width != len(classifier.classes)), None)

    low = last(classifier.layers)
    if low is None:
        found = f"{classifier.name} has no layer that is a map of the image"
        raise CueError(found, wanted="a convolutional network, or the like", do="name two of its layers of vectors")
    return low, last(classifier.vectors) or f"{low}{MEAN}"


def rectified(classifier: Classifier, layers: Sequence[str]) -> bool:
    """Whether both layers give what a ReLU does, some of it 0 and nothing below, and the high one is a vector."""
    if layers[1] not in classifier.vectors:
        return False
    maps = classifier.features(trial(classifier.preprocessing), [layer.removesuffix(MEAN) for layer in layers])
    return all(float(values.min()) == 0 for values in maps.values())


def shuffled(pixels: Tensor, place: Rectangle, seed: int, name: str) -> Tensor:
    """A copy of an image (3, H, W) with the pixels of a place in random order, which depends on seed and name alone."""
    top, left, bottom, right = place
    inside = pixels[:, top:bottom, left:right].flatten(1)
    order = list(range(inside.shape[1]))
    draw(seed, name, "shuffled").shuffle(order)
    out = pixels.clone()
    out[:, top:bottom, left:right] = inside[:, order].view(3, bottom - top, right - left)
    return out


def signs(
    classifier: Classifier, pixels: Tensor, masked: Sequence[Square], color: Color, layers: Sequence[str], seed: int = 0
) -> dict[str, NDArray[np.int8]]:
    """At each layer the sign of what each unit loses when squares of an image (3, H, W) are masked: (squares, units).

    1 where the unit falls, -1 where it rises, 0 where it stays.
    """
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    # The unmasked image goes along in each pass, so that what no mask reaches comes out the same to the bit; a square
    # takes two images at most, itself masked and the one with shuffled pixels.
    step = max(1, (classifier.batch_size - 1) // 2)
    for start in range(0, len(masked), step):
        some = masked[start : start + step]
        places = list(dict.fromkeys(square.place for square in some))
        views = [pixels[None], cover(pixels, places, color)]
        before, after = [0] * len(some), [1 + places.index(square.place) for square in some]
        for k, square in enumerate(some):
            if square.kind == "shuffled":
                before[k] = sum(map(len, views))
                views.append(shuffled(pixels, square.place, seed, square.part)[None])
        maps = classifier.features(torch.cat(views), [layer.removesuffix(MEAN) for layer in layers])
        for layer in layers:
            values = maps[layer.removesuffix(MEAN)]
            values = values.mean((2, 3)) if layer.endswith(MEAN) else values.flatten(1)
            lost = values[before] - values[after]
            least = NOISE[classifier.precision] * values[0].abs().max()
            found[layer].append((lost.sign() * (lost.abs() > least)).to(torch.int8))
    return {layer: torch.cat(parts).numpy() for layer, parts in found.items()}


def picture(pixels: Tensor, place: Rectangle, color: Color) -> Tensor:
    """(3, h, w), the image with the place masked and framed, shrunk to SIDE_PX where it is larger."""
    height, width = pixels.shape[1:]
    edge = max(1, min(height, width) // 75)
    top, left, bottom, right = place
    frame = Rectangle(max(top - edge, 0), max(left - edge, 0), min(bottom + edge, height), min(right + edge, width))
    masked = cover(cover(pixels, [frame], FRAME)[0], [place], color)
    scale = min(1.0, SIDE_PX / max(height, width))
    size = [max(1, round(side * scale)) for side in (height, width)]
    return (masked if scale == 1 else F.interpolate(masked, size, mode="area"))[0]
