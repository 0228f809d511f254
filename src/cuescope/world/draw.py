"""Draw scenes: every pixel looks up silhouette, texture and clouds in tables, so that a batch costs a few passes."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.world.shapes import EXTENT, TABLE, coverage_tables
from cuescope.world.textures import TEXELS_PER_PX, background_tiles, texture_tiles

SIZE_PX = 64
"""Height and width of every image of the world."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_WRAP_FAR = 1 << 14
"""Added to texture coordinates before they are cut to whole texels: keeps them positive."""


class Pose(NamedTuple):
    """Where things lie, one number an image: center in px, turn in radians, size, and mirrored or not (±1).

    The size is the radius of a silhouette in px, and the magnification of a texture.
    """

    x: Floats
    y: Floats
    turn: Floats
    size: Floats
    mirror: Floats


class Thing(NamedTuple):
    """One object in each image of a batch.

    `texture` is -1 for a plain surface; `weave` says where the texture lies, x and y being its phase; `ground` and
    `figure` are (B, 3) colors in 0..255 of the two tones, a plain surface has the ground's; `named` is the class it
    stands for: its silhouette's, or its texture's where the silhouette has none.
    """

    silhouette: Ints
    pose: Pose
    texture: Ints
    weave: Pose
    ground: Floats
    figure: Floats
    named: Ints
    present: Bools


class Backdrop(NamedTuple):
    """What lies behind the things, clouds of two (B, 3) colors in 0..255, and the fine grain over all."""

    near: Floats
    far: Floats
    clouds: Pose
    grain: Pose
    grain_levels: float


def _steps(pose: Pose, texels_per_unit: Floats) -> tuple[Floats, Floats]:
    """Texels that one px to the right, and one px down, move along both axes of a table: two (B, 2) arrays."""
    c, s = np.cos(pose.turn) * texels_per_unit, np.sin(pose.turn) * texels_per_unit
    return np.stack([c * pose.mirror, -s], 1), np.stack([s * pose.mirror, c], 1)


def _look_up(flat: Tensor, which: Ints, right: Floats, down: Floats, origin: Floats, wrap: bool, side: int) -> Tensor:
    """The texel under each pixel: (B, side, side) from tables laid out one after another in `flat`.

    Pixel (x, y), at its center (x + 1/2, y + 1/2), sees texel floor(origin + right x + down y).
    """
    center = np.arange(side) + 0.5
    # Rounded to single precision here, so that the sums below do not depend on the size of the batch.
    columns = torch.from_numpy((right[:, :, None] * center).astype(np.float32))
    rows = torch.from_numpy((down[:, :, None] * center + origin[:, :, None]).astype(np.float32))
    along, across = (columns[:, k, None, :].add(rows[:, k, :, None]).to(torch.int32) for k in (0, 1))
    for texels in (along, across):
        texels.bitwise_and_(TABLE - 1) if wrap else texels.clamp_(0, TABLE - 1)
    table = torch.from_numpy((which * TABLE * TABLE).astype(np.int32))[:, None, None]
    index = across.mul_(TABLE).add_(along).add_(table)
    return flat.index_select(0, index.view(-1)).view(index.shape)


@functools.cache
def _flat_tables() -> tuple[Tensor, Tensor, Tensor]:
    tables = coverage_tables(), texture_tiles(), background_tiles()
    return tuple(torch.from_numpy(np.ascontiguousarray(table)).reshape(-1) for table in tables)  # type: ignore[return-value]


def coverage(silhouette: Ints, pose: Pose, side: int = SIZE_PX) -> Tensor:
    """How much of each pixel a silhouette covers: (B, side, side) float32 in 0..1."""
    right, down = _steps(pose, TABLE / (2 * EXTENT) / pose.size)
    center = np.stack([pose.x, pose.y], 1)
    origin = TABLE / 2 - right * center[:, :1] - down * center[:, 1:]
    return _look_up(_flat_tables()[0], silhouette, right, down, origin, False, side)


def _tile(flat: Tensor, which: Ints, pose: Pose, texels_per_px: float, side: int) -> Tensor:
    right, down = _steps(pose, texels_per_px / pose.size)
    origin = np.stack([pose.x, pose.y], 1) * texels_per_px + _WRAP_FAR
    return _look_up(flat, which, right, down, origin, True, side)


def _blend(first: Floats, second: Floats, share: Tensor) -> Tensor:
    """(B, 3, H, W): from the first to the second color by a share in 0..1."""
    start = torch.from_numpy(first.astype(np.float32))[:, :, None, None]
    step = torch.from_numpy((second - first).astype(np.float32))[:, :, None, None]
    return (share[:, None] * step).add_(start)


def draw(backdrop: Backdrop, things: list[Thing], side: int = SIZE_PX) -> tuple[Tensor, Tensor]:
    """Paint the things over the backdrop, first to last.

    Returns the images, (B, 3, side, side) uint8, and what of each thing is seen, (B, things, side, side) bool.
    """
    _, tiles, back = _flat_tables()
    first = np.zeros(len(backdrop.near), dtype=np.int64)
    canvas = _blend(backdrop.near, backdrop.far, _tile(back, first, backdrop.clouds, TEXELS_PER_PX, side))
    seen: list[Tensor] = []
    for thing in things:
        cover = coverage(thing.silhouette, thing.pose, side)
        if not thing.present.all():
            cover = cover * torch.from_numpy(thing.present)[:, None, None]
        tone = _tile(tiles, np.maximum(thing.texture, 0), thing.weave, TEXELS_PER_PX, side)
        if (thing.texture < 0).any():
            tone = tone * torch.from_numpy(thing.texture >= 0)[:, None, None]
        canvas = canvas.add_(_blend(thing.ground, thing.figure, tone).sub_(canvas).mul_(cover[:, None]))
        mask = cover > 0.5
        seen = [earlier & ~mask for earlier in seen] + [mask]
    grain = _tile(back, first + 1, backdrop.grain, TEXELS_PER_PX, side)
    canvas = canvas.add_(grain.mul_(backdrop.grain_levels)[:, None])
    return canvas.round_().clamp_(0, 255).to(torch.uint8), torch.stack(seen, 1)
