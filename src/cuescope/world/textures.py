"""The 16 textures: periodic patterns of two tones that a patch of 9 to 17 px can tell apart."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Light = NDArray[np.bool_]
"""Where the light tone lies."""
TILE_PX = 64
"""A tile spans 64 px and repeats."""
TEXELS_PER_PX = 4
_OVERSAMPLING = 2
_SIDE = TILE_PX * TEXELS_PER_PX * _OVERSAMPLING


def _fraction(x: Field, count: float) -> Field:
    """Position inside the current of `count` periods along the tile, 0..1."""
    return (x * count / TILE_PX) % 1.0


def _offsets(x: Field, y: Field, width: float, height: float) -> Iterator[tuple[Field, Field]]:
    """Offset in px from the nearest center of the even rows of a lattice, and of the odd ones, half a cell aside."""
    for odd in (0, 1):
        dx = (x - odd * width / 2 + width / 2) % width - width / 2
        yield dx, (y - odd * height + height) % (2 * height) - height


def _lattice(x: Field, y: Field, columns: int, rows: int) -> tuple[Field, Field]:
    """Offset in px from the nearest center of such a lattice."""
    best_x, best_y = np.full_like(x, 1e3), np.full_like(x, 1e3)
    for dx, dy in _offsets(x, y, TILE_PX / columns, TILE_PX / rows):
        nearer = dx**2 + dy**2 < best_x**2 + best_y**2
        best_x, best_y = np.where(nearer, dx, best_x), np.where(nearer, dy, best_y)
    return best_x, best_y


def _noise(sigma_x_px: float, sigma_y_px: float, number: int) -> Field:
    """Periodic Gaussian noise of unit variance, smoothed by these deviations."""
    white = np.random.default_rng([number, 0x7E87]).standard_normal((_SIDE, _SIDE))
    cycles = np.fft.fftfreq(_SIDE, d=TILE_PX / _SIDE)
    smooth = np.exp(-2 * np.pi**2 * ((sigma_x_px * cycles[None, :]) ** 2 + (sigma_y_px * cycles[:, None]) ** 2))
    field = np.fft.ifft2(np.fft.fft2(white) * smooth).real
    return (field - field.mean()) / field.std()


def _honeycomb(x: Field, y: Field) -> Light:
    width, height = TILE_PX / 8, TILE_PX / 10
    distances = []
    for dx, dy in _offsets(x, y, width, height):
        distances.extend(np.hypot(dx - step * width, dy) for step in (-1, 0, 1))
        distances.append(np.hypot(dx, 2 * height - np.abs(dy)))
    near = np.sort(np.stack(distances), axis=0)
    return near[1] - near[0] < 1.9


def _scales(x: Field, y: Field) -> Light:
    """Rows of overlapping disks, each row lying over the one below it; only the rims are light."""
    columns, rows = 8, 16
    width, height = TILE_PX / columns, TILE_PX / rows
    rim = np.zeros_like(x, dtype=bool)
    for row in reversed(range(-2, rows + 1)):
        dx = (x - (row % 2) * width / 2) % width - width / 2
        dy = y - (row + 0.2) * height
        distance = np.where(dy > 0, np.hypot(dx, dy), np.abs(dx))
        inside = (distance < width * 0.56) & (dy > -height)
        rim = np.where(inside, distance > width * 0.56 - 1.45, rim)
    return rim


def _crosses(x: Field, y: Field) -> Light:
    dx, dy = (np.abs(v) for v in _lattice(x, y, 8, 8))
    arm, half = 3.0, 0.95
    return ((dx < half) & (dy < arm)) | ((dy < half) & (dx < arm))


def _bricks(x: Field, y: Field) -> Light:
    row = np.floor(y * 12 / TILE_PX)
    joint = _fraction(x + (row % 2) * TILE_PX / 14, 7) < 0.17
    return joint | (_fraction(y, 12) < 0.28)


def _weave(x: Field, y: Field) -> Light:
    across = (_fraction(x, 4) < 0.5) ^ (_fraction(y, 4) < 0.5)
    return np.where(across, _fraction(x, 24), _fraction(y, 24)) < 0.5


TEXTURES: dict[str, tuple[str, Callable[[Field, Field], Light]]] = {
    "arrow": ("triangles", lambda x, y: np.abs(_fraction(x, 9) - 0.5) < 0.5 * _fraction(y, 10)),
    "bolt": ("chevron", lambda x, y: _fraction(y + 5.2 * np.abs(_fraction(x, 6) - 0.5) * 2, 11) < 0.5),
    "butterfly": ("honeycomb", _honeycomb),
    "crescent": ("speckle", lambda x, y: _noise(0.5, 0.5, 2) > 0.35),
    "crown": ("weave", _weave),
    "fish": ("scales", _scales),
    "flower": ("crosses", _crosses),
    "heart": ("checker", lambda x, y: (_fraction(x, 8) < 0.5) ^ (_fraction(y, 8) < 0.5)),
    "house": ("bricks", _bricks),
    "mug": ("dots", lambda x, y: np.hypot(*_lattice(x, y, 11, 12)) < 1.75),
    "mushroom": ("rings", lambda x, y: np.abs(np.hypot(*_lattice(x, y, 7, 8)) - 2.75) < 0.8),
    "rabbit": ("fur", lambda x, y: _noise(0.55, 2.6, 3) > 0),
    "sailboat": ("stripes", lambda x, y: _fraction(y, 14) < 0.5),
    "star": ("grid", lambda x, y: (_fraction(x, 10) < 0.25) | (_fraction(y, 10) < 0.25)),
    "tree": ("blotches", lambda x, y: _noise(1.35, 1.35, 1) > 0),
    "vase": ("waves", lambda x, y: _fraction(y + 1.9 * np.sin(2 * np.pi * _fraction(x, 4)), 10) < 0.42),
}
"""By class what its texture looks like, and where it is light; x and y are in px."""


def _tile(draw: Callable[[Field, Field], Light]) -> NDArray[np.float32]:
    """One texture at 4 texels a px, each the mean over a square of one px: what keeps fine patterns free of moiré."""
    center = (np.arange(_SIDE) + 0.5) * TILE_PX / _SIDE
    y, x = np.meshgrid(center, center, indexing="ij")
    box = np.sinc(np.fft.fftfreq(_SIDE, d=TILE_PX / _SIDE))
    smooth = np.fft.ifft2(np.fft.fft2(draw(x, y).astype(np.float64)) * box[None, :] * box[:, None]).real
    return smooth[::_OVERSAMPLING, ::_OVERSAMPLING].clip(0, 1).astype(np.float32)


@functools.cache
def texture_tiles() -> NDArray[np.float32]:
    """The textures in the order of the classes: (16, 256, 256) in 0..1 (dark to light tone), periodic."""
    return np.stack([_tile(draw) for _, draw in TEXTURES.values()])


@functools.cache
def background_tiles() -> NDArray[np.float32]:
    """What lies behind and over everything and tells no class: soft clouds and fine grain, (2, 256, 256).

    Clouds are 0..1, grain has mean 0 and deviation 1, limited to 2.5.
    """
    step = slice(None, None, _OVERSAMPLING)
    clouds = 0.5 + 0.28 * _noise(6.0, 6.0, 11)[step, step]
    white = np.random.default_rng([12, 0x7E87]).standard_normal((_SIDE // _OVERSAMPLING,) * 2)
    return np.stack([clouds.clip(0, 1), white.clip(-2.5, 2.5)]).astype(np.float32)
