"""What a square that hides places of an image tells: whether the worst place lies on the object, and what it misses."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.occlude import Grid, Rectangle, cover

PASS = 32
"""Hidden images whose maps are held together."""
ROUNDING = 1e-6
"""A fall of P(class) that is none."""
SAME = 0.1
"""Mean distance of colors, of at most 1, at which a square hides nothing that can be seen."""


def pointing(place: Tensor, grid: Grid, p: NDArray[Any], p_clean: float) -> dict[str, float]:
    """How many of the worst places lie on the object, here and with the image turned, and how many of all.

    Nothing where hiding never lowers P(class): then no place is the worst.
    """
    on, turned = ([bool(mask[grid.center(k)]) for k in range(len(p))] for mask in (place, place.flip(0, 1)))
    if p_clean - p.min() <= ROUNDING:
        return {}
    worst = p <= p.min() + ROUNDING
    hit, hit_turned = (sum(w and o for w, o in zip(worst, where, strict=True)) for where in (on, turned))
    return {
        "hit": float(hit / worst.sum()),
        "hit_turned": float(hit_turned / worst.sum()),
        "hit_by_chance": sum(on) / len(on),
    }


def unseen(pixels: Tensor, grid: Grid, color: Sequence[float]) -> float:
    """The share of places at which an image (3, H, W) has about the color of the square already."""
    apart = (pixels.cpu() - torch.tensor(color)[:, None, None]).abs().mean(0)
    places = [float(apart[top:bottom, left:right].mean()) < SAME for top, left, bottom, right in grid.rectangles]
    return sum(places) / len(places)


def left_of_map(
    classifier: Classifier,
    pixels: Tensor,
    places: Sequence[Rectangle],
    color: Sequence[float],
    layer: str,
    channel: int,
) -> list[float]:
    """What share of the sum of a map is left while each place of an image (3, H, W) is hidden."""
    sums: list[float] = []
    for start in range(0, len(places), PASS):
        hidden = cover(pixels, places[start : start + PASS], color)
        sums += classifier.features(hidden, [layer])[layer][:, channel].sum((1, 2)).tolist()
    whole = float(classifier.features(pixels[None], [layer])[layer][0, channel].sum()) or 1.0
    return [value / whole for value in sums]
