"""Which images are nearly the same: smaller, compressed anew, mirrored or cropped? By small gray pictures and features.

Zeiler and Fergus 2014 found images of Caltech in their training set by normalized correlation; size and threshold they
do not give. Ours: gray pictures of 32 px less their mean, in parts, and the structural similarity of what fits best.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.core.matrix import Matrix

SIDE, COARSE, COARSEST = 64, 32, 16
"""Of the gray pictures that are kept, of those that are compared part by part, and of whole ones, in px."""
ALIKE, SAME = 0.9, 0.8
"""Correlation and mean structural similarity (SSIM) of the parts that fit best, from which on two images are the same.

Of 500 photographs and 400 of CIFAR-10 no other pairs have both; copies as small as 80 % of the sides have.
"""
LIKELY, TRIED = 0.6, 5
"""Pairs of whole pictures, or of features less their mean, with such a product are looked at: so many of each image."""
SCALES = tuple(1 - 0.025 * k for k in range(11))
"""Sides of the parts of one image that may be the other one, in shares."""
PLACES = 5
"""Places of such a part along each side."""
WINDOW = 7
"""Of the SSIM, in px of the compared pictures."""
BLOCK = 1024

Pictures = NDArray[np.uint8]
"""(n, 64, 64) gray."""


class Twin(NamedTuple):
    """The other image that one is nearly the same as: its number, and how alike they are where they fit best."""

    other: int
    correlation: float
    similarity: float
    mirrored: bool


def picture(pixels: Tensor) -> Tensor:
    """An image (3, H, W) uint8 as a gray picture (64, 64) uint8, squeezed to a square.

    >>> picture(torch.full((3, 20, 30), 100, dtype=torch.uint8))[0, :3].tolist()
    [100, 100, 100]
    """
    gray = torch.einsum("chw,c->hw", pixels.float(), torch.tensor([0.299, 0.587, 0.114]))
    small = F.interpolate(gray[None, None], (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return small[0, 0].round().clamp(0, 255).byte()


class Seen(NamedTuple):
    """What images are compared by: their gray pictures, (n, 64 * 64) of whole numbers to 255, and features (n, D)."""

    pictures: Matrix
    features: Matrix

    def picture(self, number: int) -> Tensor:
        return torch.from_numpy(self.pictures.take([number])).view(SIDE, SIDE)


def twins(images: Seen, others: Seen) -> list[Twin | None]:
    """Of each of n images the one of m others that it is nearly the same as, the most similar one, or None.

    Features say, besides the pictures, which pairs are worth a look.

    >>> one, nothing = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint8), np.zeros((1, 2))
    >>> seen = [Seen(Matrix.whole(p.reshape(1, -1)), Matrix.whole(nothing)) for p in (one, one[:, :, ::-1])]
    >>> twins(*seen)[0].mirrored
    True
    """
    found: list[Twin | None] = []
    for i, candidates in enumerate(_candidates(images, others)):
        one = images.picture(i) if candidates else torch.empty(0)
        fits = [(j, *best_fit(one, others.picture(j))) for j in candidates]
        same = [Twin(*fit) for fit in fits if fit[1] >= ALIKE and fit[2] >= SAME]
        found.append(max(same, key=lambda twin: twin.similarity, default=None))
    return found


def _candidates(images: Seen, others: Seen) -> Iterator[list[int]]:
    """Of each image the others that may be the same, by whole pictures, mirrored ones, and features."""
    coarse = [_coarsest(seen.pictures) for seen in (images, others)]
    count = max(len(images.features) + len(others.features), 1)
    mean = sum(part.sum(0, dtype=float) for seen in (images, others) for _, part in seen.features.parts(BLOCK)) / count

    def sides(seen: Seen, small: Matrix, where: slice) -> tuple[Tensor, Tensor]:
        pictures = torch.from_numpy(small.part(where.start, where.stop)).view(-1, COARSEST, COARSEST)
        return pictures, _units(torch.from_numpy(seen.features.part(where.start, where.stop) - mean).float())

    for where, part in images.features.parts(BLOCK):
        pictures, features = sides(images, coarse[0], where)
        own, n = (_units(pictures), _units(pictures.flip(2)), features), len(part)
        likely, numbers = torch.empty(3 * n, 0), torch.empty(3 * n, 0, dtype=torch.int64)
        for block, _ in others.features.parts(BLOCK):
            theirs, known = sides(others, coarse[1], block)
            against = (_units(theirs), _units(theirs), known)
            products = torch.cat([mine @ other.T for mine, other in zip(own, against, strict=True)])
            values, places = products.topk(min(TRIED, products.shape[1]), 1)
            likely, numbers = torch.cat([likely, values], 1), torch.cat([numbers, places + block.start], 1)
            likely, at = likely.topk(min(TRIED, likely.shape[1]), 1)
            numbers = numbers.gather(1, at)
        for i in range(n):
            some = slice(i, None, n)
            yield sorted(set(numbers[some][likely[some] >= LIKELY].tolist()))


def _coarsest(pictures: Matrix) -> Matrix:
    """What whole pictures are compared by: so coarse, 16 px, that a crop changes little."""
    small = (_coarse(part.reshape(-1, SIDE, SIDE), COARSEST).flatten(1).numpy() for _, part in pictures.parts(BLOCK))
    return Matrix.of(small, len(pictures), COARSEST**2, folder=pictures.folder)


def best_fit(one: Tensor, other: Tensor) -> tuple[float, float, bool]:
    """Where does a part of one gray picture (64, 64) fit the other, as it is or mirrored, or the other way round?

    The correlation there, the SSIM, and whether mirrored.
    """
    found = (-1.0, -1.0, False)
    for mirrored in (False, True):
        second = other.flip(1) if mirrored else other
        for a, b in ((one, second), (second, one)):
            parts, whole = _parts(a.float()), _coarse(b[None].numpy())
            correlation, at = (_units(parts) @ _units(whole)[0]).max(0)
            if float(correlation) > found[0]:
                found = float(correlation), _similarity(parts[at], whole[0]), mirrored
    return found


@cache
def _grids() -> Tensor:
    """Where in the whole each part is sampled, (P, 32, 32, 2)."""
    boxes = []
    for scale in SCALES:
        ends = np.linspace(scale - 1, 1 - scale, PLACES) if scale < 1 else np.zeros(1)
        boxes += [[[scale, 0, x], [0, scale, y]] for y in ends for x in ends]
    return F.affine_grid(torch.tensor(boxes, dtype=torch.float32), [len(boxes), 1, COARSE, COARSE], align_corners=False)


def _parts(gray: Tensor) -> Tensor:
    """Parts (P, 32, 32) of a picture (64, 64), by size and place."""
    grids = _grids()
    # A blur of two pixels first: parts are about half as fine.
    soft = F.avg_pool2d(F.pad(gray[None, None], (0, 1, 0, 1), mode="replicate"), 2, 1)
    shift = torch.tensor([-1.0 / SIDE, -1.0 / SIDE])
    whole = soft.expand(len(grids), -1, -1, -1)
    return F.grid_sample(whole, grids + shift, padding_mode="border", align_corners=False)[:, 0]


def _coarse(pictures: Pictures, side: int = COARSE) -> Tensor:
    """(n, 64, 64) to (n, side, side)."""
    return F.avg_pool2d(torch.tensor(pictures.copy()).float()[:, None], SIDE // side)[:, 0]


def _units(values: Tensor) -> Tensor:
    """(n, ...) to (n, D) of length 1; pictures less their mean. One of a single gray is like nothing."""
    flat = values.flatten(1)
    if values.ndim > 2:
        flat = flat - flat.mean(1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-3)


def _similarity(a: Tensor, b: Tensor) -> float:
    """Mean SSIM (Wang et al. 2004) of two gray pictures of 0 to 255, in windows of 7 px."""
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    stack = F.avg_pool2d(torch.stack([a, b, a * a, b * b, a * b])[:, None], WINDOW, 1)[:, 0]
    ma, mb, aa, bb, ab = stack
    top = (2 * ma * mb + low) * (2 * (ab - ma * mb) + high)
    bottom = (ma**2 + mb**2 + low) * (aa - ma**2 + bb - mb**2 + high)
    return float((top / bottom).mean())
