"""Images cut into tiles that trade places or are turned: what is near stays near, and the whole is gone.

All take and give (B, 3, H, W) uint8 on any device, and a generator for each image.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Rule = Literal["published", "full"]
"""Which tiles may trade places: those of equal size in pixels, or all."""
NUDGE = 1 / 24
"""How far a tile looks aside at most, as a share of the side: 9 of 224 px."""


def shuffled(pixels: Tensor, grid: int, randoms: Sequence[np.random.Generator], rule: Rule = "published") -> Tensor:
    """Grid x grid tiles of each image trade places, by its own generator.

    By the published rule only tiles of the same height and width do, as in albumentations' RandomGridShuffle: where the
    grid does not divide the side, they are few. 3 x 3 tiles of 224 px make groups of 1, 2, 2 and 4, and 4 of the 9
    stay in place on average. By the full rule all do, cut to the size of the smallest: what is over, at most a line of
    pixels between tiles, stays. Nothing is resampled, which would blur.
    """
    height, width = pixels.shape[2:]
    return _moved(pixels, [_shuffle(height, width, grid, random, rule) for random in randoms])


def rotated(pixels: Tensor, grid: int, randoms: Sequence[np.random.Generator]) -> Tensor:
    """Each of grid x grid tiles turned by 0, 90, 180 or 270 degrees; by 0 or 180 where tiles are not square.

    An image whose sides the grid does not divide is resized to the next multiple for that, and back.
    """

    def turn(larger: Tensor) -> Tensor:
        down, across = (side // grid for side in larger.shape[2:])
        maps = []
        for random in randoms:
            turns = random.integers(0, 4, (grid, grid)) * (1 if down == across else 2)
            place = np.arange(larger.shape[2] * larger.shape[3]).reshape(grid, down, grid, across).swapaxes(1, 2)
            tiles = [[np.rot90(place[i, j], turns[i, j]) for j in range(grid)] for i in range(grid)]
            maps.append(np.block(tiles).ravel())
        return _moved(larger, maps)

    return _on_multiple(pixels, grid, turn)


def nudged(pixels: Tensor, grid: int, randoms: Sequence[np.random.Generator]) -> Tensor:
    """Each of grid x grid tiles shows what lies beside it, up to a 24th of the side away: cuts, and hardly any moves.

    A control for `shuffled`: as many cuts, and everything about where it was. The 24th is ours.
    """
    height, width = pixels.shape[2:]
    return _moved(pixels, [_nudge(height, width, grid, random) for random in randoms])


def _nudge(height: int, width: int, grid: int, random: np.random.Generator) -> NDArray[np.int64]:
    place = np.arange(height * width).reshape(height, width)
    out = place.copy()
    for top, bottom in _spans(height, grid, "published"):
        for left, right in _spans(width, grid, "published"):
            y = _step(top, height - bottom, height, random)
            x = _step(left, width - right, width, random)
            out[top:bottom, left:right] = place[top + y : bottom + y, left + x : right + x]
    return out.ravel()


def _step(before: int, behind: int, side: int, random: np.random.Generator) -> int:
    """How far a tile looks aside, at most to the border."""
    most = max(1, round(NUDGE * side))
    return int(random.integers(-min(most, before), min(most, behind) + 1))


def _shuffle(height: int, width: int, grid: int, random: np.random.Generator, rule: Rule) -> NDArray[np.int64]:
    """(H * W,): which pixel comes to each place."""
    rows, columns = (_spans(side, grid, rule) for side in (height, width))
    place = np.arange(height * width).reshape(height, width)
    out = place.copy()
    groups: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for top, bottom in rows:
        for left, right in columns:
            groups.setdefault((bottom - top, right - left), []).append((slice(top, bottom), slice(left, right)))
    for tiles in groups.values():
        for tile, source in zip(tiles, random.permutation(len(tiles)), strict=True):
            out[tile] = place[tiles[source]]
    return out.ravel()


def _spans(side: int, grid: int, rule: Rule) -> list[tuple[int, int]]:
    """Where tiles begin and end along a side."""
    edges = np.linspace(0, side, grid + 1).astype(int).tolist()
    least = side // grid
    return [(start, start + least if rule == "full" else end) for start, end in pairwise(edges)]


def _moved(pixels: Tensor, maps: Sequence[NDArray[np.int64]]) -> Tensor:
    index = torch.from_numpy(np.stack(maps)).to(pixels.device)[:, None].expand(-1, 3, -1)
    return pixels.flatten(2).gather(2, index).view(pixels.shape)


def _on_multiple(pixels: Tensor, grid: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """What `change` makes of the images resized to the next multiple of the grid, in the old size."""
    height, width = pixels.shape[2:]
    size = -(-height // grid) * grid, -(-width // grid) * grid
    return resized(change(resized(pixels, size)), (height, width))


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Linearly, without antialiasing, as OpenCV's INTER_LINEAR: (B, 3, *size) uint8."""
    if pixels.shape[2:] == size:
        return pixels
    return F.interpolate(pixels.float(), size, mode="bilinear", align_corners=False).round().to(torch.uint8)
