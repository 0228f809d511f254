"""What a square that hides places of an image tells: whether the worst place lies on the object, and what it misses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import Inset, Map
from cuescope.data.ops.occlude import Grid
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.methods.deconvnet import project, why_not
from cuescope.methods.incremental import painted_sums

TILE_PX = 112
"""Side of a projection as it is shown."""
ROUNDING = 1e-6
"""A fall of P(class) that is none."""
SAME = 0.1
"""Mean distance of colors, of at most 1, at which a square hides nothing that can be seen."""
LEAST_FALL, TINT = 0.05, 0.7
"""A smaller share of what is there is no fall to draw, as it would tint most of the image; how strongly a changed
answer is laid on."""


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


def fall_map(falls: Sequence[float], whole: float, grid: Grid, size: tuple[int, int], name: str) -> Map:
    """Falls from `whole` at each place of the square, over an image of this size (H, W): only those worth a look."""
    shown = [fall if fall >= LEAST_FALL * whole else None for fall in falls]
    return Map("heat", grid.spread(shown, *size), name, low=0.0, high=whole)


def changes_map(
    answers: Sequence[int], own: int, grid: Grid, size: tuple[int, int], names: Sequence[str]
) -> Map | None:
    """The answers at those places of the square that change the image's own answer; None where none does."""
    changed = list(dict.fromkeys(answer for answer in answers if answer != own))
    if not changed:
        return None
    codes = [changed.index(answer) if answer != own else None for answer in answers]
    count = sum(code is not None for code in codes)
    values, legend = grid.spread(codes, *size), tuple(names[answer] for answer in changed)
    name = f"answer where it changes: {count} of {len(codes)} places"
    return Map("labels", values, name, legend=legend, strength=np.full(np.shape(values), TINT).tolist())


def followed_map(
    classifier: Classifier, shown: Tensor, grid: Grid, color: Sequence[float], layer: str, channel: int
) -> tuple[Map, tuple[Inset, ...]]:
    """Figure 7 b and c of Zeiler & Fergus 2014 for the first of these images (B, 3, H, W).

    The sum of a map at each place of the square, as a share of that unhidden, and what excites the map in all of them.
    """
    sums = painted_sums(classifier, shown[0], grid.rectangles, color, layer, channel).tolist()
    whole = float(classifier.features(shown[:1], [layer])[layer][0, channel].sum()) or 1.0
    name = f"fall of map {channel} of {layer}, as a share of its sum"
    followed = fall_map([1 - value / whole for value in sums], 1.0, grid, (shown.shape[-2], shown.shape[-1]), name)
    if why_not(classifier, layer):
        return followed, ()
    maps = project(classifier, shown, layer, [channel] * len(shown)).maps
    tiles = [tile(contrast(one), TILE_PX) for one in maps]
    where = ", here (top left) and elsewhere" if len(tiles) > 1 else ""
    return followed, (Inset(f"what excites map {channel}{where}", sheet([tiles], columns=min(2, len(tiles)))),)


def concentration(falls: NDArray[Any]) -> float | None:
    """How local is a dependence: the share of all falls that the tenth of places with the largest falls hold.

    0.1 where every place matters alike, 1 where a tenth of the places holds all; None where nothing falls.

    >>> concentration(np.array([0.0] * 9 + [0.5])), concentration(np.full(10, 0.2)), concentration(np.zeros(10))
    (1.0, 0.1, None)
    """
    lost = np.sort(np.clip(falls, 0, None))[::-1]
    total = lost.sum()
    if total <= 0:
        return None
    whole, part = divmod(len(lost), 10)
    top = lost[:whole].sum() + (lost[whole] * part / 10 if part else 0.0)
    return float(round(top / total, 12))
